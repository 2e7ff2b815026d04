"""Whether a text quotes training rows word for word."""

from __future__ import annotations

import string
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

_LEAST = 40
_SHARE = 20


class Copies:
    """Finds what a text copies out of `rows`, each given as the texts of its values. Case and spaces do not count.

    A copy is a whole value of at least 40 characters, wherever it stands, or a passage of a longer one: at the earliest
    from 80 characters in a row, always from 120. What more than a twentieth of the rows hold (more than one of fewer
    than 40 rows), as constant columns and the instructions inside rows do, belongs to the task and is no copy. Shorter
    values are free: nothing tells a quote of "lost card" from a word about it.
    """

    def __init__(self, rows: Sequence[Collection[str]]) -> None:
        self._most = max(1, len(rows) // _SHARE)
        squeezed = Counter(squeeze(value).strip(string.punctuation + " ") for values in rows for value in values)
        self._values = {value: count for value, count in squeezed.items() if len(value) >= _LEAST}
        self._whole: dict[str, list[str]] = defaultdict(list)
        self._passages: set[str] = set()
        for value in self._values:
            self._whole[value[:_LEAST]].append(value)
            # Every 40 characters one of 80: a copied run of 120 holds one of them whole.
            self._passages.update(value[i : i + 2 * _LEAST] for i in range(0, len(value) - 2 * _LEAST + 1, _LEAST))

    def copied(self, text: str, known: str) -> bool:
        """Whether `text` holds a copy. What stands in `known`, the prompt that there is, is none. Both are squeezed."""
        for i in range(len(text) - _LEAST + 1):
            for value in self._whole.get(text[i : i + _LEAST], ()):
                if text.startswith(value, i) and self._own(value, known):
                    return True
            passage = text[i : i + 2 * _LEAST]
            # Both halves have to be a row's own: one that follows a shared text may begin like many.
            if passage in self._passages and all(
                self._own(half, known) for half in (passage[:_LEAST], passage[_LEAST:])
            ):
                return True
        return False

    def _own(self, passage: str, known: str) -> bool:
        """Whether few rows hold the passage, and the prompt does not."""
        if passage in known:
            return False
        held = 0
        for value, count in self._values.items():
            if passage in value:
                held += count
                if held > self._most:
                    return False
        return True


def squeeze(text: str) -> str:
    """`text` in lower case, with one space for every white space."""
    return " ".join(text.lower().split())
