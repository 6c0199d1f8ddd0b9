"""Sets of 64-bit hashes in 8 bytes each, where a set of Python's takes a hundred."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from hashlib import blake2b

RECENT = 1 << 14
LONGEST_MERGED = 1 << 18  # a merge holds its numbers twice


def hash_of(id: str) -> int:
    """64 bits that stand for an id."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "little")


class Hashes:
    """A set that grows: the last numbers as they came, the others in sorted runs."""

    def __init__(self) -> None:
        self.recent: set[int] = set()
        self.runs: list[Sequence[int]] = []

    def add(self, number: int) -> bool:
        """Whether the number is new."""
        if number in self.recent or any(place_in(run, number) is not None for run in self.runs):
            return False
        self.recent.add(number)
        if len(self.recent) == RECENT:
            self._settle()
        return True

    def _settle(self) -> None:
        run = in_order(self.recent)
        self.recent.clear()
        while self.runs and len(self.runs[-1]) <= len(run) < LONGEST_MERGED:
            run = in_order(run, self.runs.pop())
        self.runs.append(run)


def in_order(*numbers: Iterable[int]) -> Sequence[int]:
    """The distinct numbers, sorted."""
    import numpy as np

    parts = [np.fromiter(part, np.uint64) if not isinstance(part, memoryview) else np.asarray(part) for part in numbers]
    whole = np.concatenate(parts)
    whole.sort(kind="stable")  # which merges what is sorted
    is_new = np.ones(len(whole), dtype=bool)
    np.not_equal(whole[1:], whole[:-1], out=is_new[1:])
    return (whole if is_new.all() else whole[is_new]).data


def place_in(numbers: Sequence[int], number: int) -> int | None:
    """Where the number stands in sorted ones, if it does."""
    place = bisect_left(numbers, number)
    return place if place < len(numbers) and numbers[place] == number else None
