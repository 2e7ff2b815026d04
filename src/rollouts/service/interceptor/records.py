"""What went through the interceptor, for reading back: in memory, bounded."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

JSON = dict[str, Any]


class CallLog:
    """The calls of the newest trials, by correlation id. Above `max_bytes` the oldest trials are dropped.

    What must last is elsewhere: usage, cost and traces go into the rollout that the trial belongs to.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._trials: OrderedDict[str, list[bytes]] = OrderedDict()

    def add(self, correlation_id: str, call: JSON) -> None:
        """One more call."""
        written = json.dumps(call).encode()
        self._trials.setdefault(correlation_id, []).append(written)
        self._bytes += len(written)
        while self._bytes > self._max_bytes:
            _, dropped = self._trials.popitem(last=False)
            self._bytes -= sum(map(len, dropped))

    def calls(self, correlation_id: str) -> list[JSON] | None:
        """The calls in the order in which they ended; None when none are known."""
        found = self._trials.get(correlation_id)
        return None if found is None else [json.loads(call) for call in found]
