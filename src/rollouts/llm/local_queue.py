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

    A group is served until it is empty, or until `max_run` items have been taken from it in a row; then it is the turn
    of the group that has waited longest for one. So a group with waiting items starts after at most `max_run` items of
    each other group.
    """

    def __init__(self, max_run: int = 64) -> None:
        self._max_run = max_run
        self._groups: dict[str, deque[T]] = {}  # in the order of their turns
        self._current = ""
        self._run = 0

    def __len__(self) -> int:
        return sum(map(len, self._groups.values()))

    def push(self, key: str, item: T) -> None:
        """Adds `item` at the end of the group `key`."""
        self._groups.setdefault(key, deque()).append(item)

    def pop(self) -> T:
        """Removes and returns the next item; raises IndexError when none waits."""
        if not self._groups:
            raise IndexError("pop from an empty queue")
        if self._current in self._groups and self._run >= self._max_run:
            self._groups[self._current] = self._groups.pop(self._current)
            self._current = ""
        if self._current not in self._groups:
            self._current, self._run = next(iter(self._groups)), 0
        group = self._groups[self._current]
        item = group.popleft()
        self._run += 1
        if not group:
            del self._groups[self._current]
        return item
