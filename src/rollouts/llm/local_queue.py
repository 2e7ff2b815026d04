"""The order in which one model answers waiting requests: those that share a prefix run together."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from rollouts.dtypes import Message, digest

T = TypeVar("T")

# How much of a lone message names its group: enough to tell instructions apart, short enough to leave out the sample.
LONE_MESSAGE_CHARS = 64


def prefix_key(messages: Sequence[Message]) -> str:
    """Names the prefix: all messages but the last; of a lone message its first characters."""
    if len(messages) == 1:
        return digest("lone", messages[0].content[:LONE_MESSAGE_CHARS])
    return digest(*(part for message in messages[:-1] for part in (message.role, message.content)))


class PrefixQueue(Generic[T]):
    """Waiting items in groups. First in, first out within a group; one group at a time.

    A group is served until it is empty, or until `max_run` items have been taken from it while another group waits.
    Then the group whose first item has waited longest is next, so that no item waits for more than `max_run` items of
    each other group that is ahead of it, plus its own group's.
    """

    def __init__(self, max_run: int = 64) -> None:
        self._max_run = max_run
        self._groups: dict[str, deque[tuple[int, T]]] = {}
        self._arrivals = 0
        self._current = ""
        self._run = 0

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def push(self, key: str, item: T) -> None:
        """Adds `item` at the end of the group `key`."""
        self._groups.setdefault(key, deque()).append((self._arrivals, item))
        self._arrivals += 1

    def pop(self) -> T:
        """Removes and returns the next item; raises IndexError when none waits."""
        if not self._groups:
            raise IndexError("pop from an empty queue")
        if self._current not in self._groups or (self._run >= self._max_run and len(self._groups) > 1):
            others = (key for key in self._groups if key != self._current)
            self._current, self._run = min(others, key=lambda key: self._groups[key][0][0]), 0
        group = self._groups[self._current]
        _, item = group.popleft()
        self._run += 1
        if not group:
            del self._groups[self._current]
        return item
