"""How diverse rows are: what repeats in their inputs, how near they lie to one another, where they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from understudy.records import Example, digest, normalise

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWN = 1_000
"""Of so many inputs at most are the neighbours looked for."""

NAMED = 20
"""So many of the names of tasks are told."""

WITHOUT = "(none)"
"""The dataset of rows that were read from none: a teacher wrote them."""

_HELD = 2**18  # different ones that are counted one by one
_SPACE = 2**64


def diversity(rows: Iterable[Example], encode: Callable[[Sequence[str]], NDArray[Any]] | None = None) -> dict[str, Any]:
    """Figures of the inputs, in one pass; memory does not grow with the rows.

    ``unique`` is the share of different inputs; ``distinct_1`` and ``distinct_2`` are different words over all words
    and different pairs of words over all pairs, both of the normalised inputs (Li et al. 2016, arXiv 1510.03055);
    ``nearest`` is the mean cosine of an input to its nearest neighbour among at most 1,000, drawn by their ids;
    ``datasets`` are the shares of the datasets that the rows came from, the largest first. ``tasks`` is there where
    rows name a task of their own (``notes["task"]``): how many ``rows`` do, how many ``names`` there are whatever their
    case and punctuation, and how often the ``most`` frequent ones stand. What is not known, or has nothing to count, is
    ``None``. Beyond 262,144 different ones the counts are estimates, within about 0.5 %.

    Distinct-n falls as rows are added, and neighbours come nearer: they compare sets of about equal size.

    Args:
        encode: texts to float rows [texts, width] of unit length; without it ``nearest`` is ``None``.
    """
    import numpy as np

    inputs, ones, twos = _Different(), _Different(), _Different()
    datasets: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    drawn: list[tuple[str, str]] = []
    for row in rows:
        text = normalise(row.input)
        words = np.fromiter(map(_word, text.split()), dtype=np.uint64)
        inputs.add(np.array([_number(text)], dtype=np.uint64))
        ones.add(words)
        twos.add(words[:-1] * np.uint64(_SPREAD) + words[1:])  # modulo 2^64
        datasets[row.origin.dataset if row.origin else WITHOUT] += 1
        if task := row.notes.get("task"):
            tasks[normalise(task)] += 1
        _draw(drawn, row)
    return {
        "unique": inputs.share,
        "distinct_1": ones.share,
        "distinct_2": twos.share,
        "nearest": _nearest([text for _, text in sorted(drawn)[:DRAWN]], encode),
        "datasets": {name: round(count / inputs.total, 6) for name, count in _most_first(datasets)},
        **(
            {"tasks": {"rows": tasks.total(), "names": len(tasks), "most": dict(_most_first(tasks)[:NAMED])}}
            if tasks
            else {}
        ),
    }


def _most_first(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


class _Different:
    """Counts different numbers below 2^64: each one of them, or, where they are many, those in a part of the range."""

    def __init__(self) -> None:
        self.total = 0
        self._limit = _SPACE
        self._seen: set[int] = set()

    def add(self, numbers: NDArray[Any]) -> None:
        self.total += len(numbers)
        self._seen.update(numbers[numbers <= self._limit - 1].tolist())
        while len(self._seen) > _HELD:
            self._limit //= 2
            self._seen = {one for one in self._seen if one < self._limit}

    @property
    def share(self) -> float | None:
        """The different ones over all."""
        return round(len(self._seen) * (_SPACE // self._limit) / self.total, 6) if self.total else None


_SPREAD = 0x9E3779B97F4A7C15  # odd, so that a pair is a number of its own whichever word comes first


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


_word = lru_cache(maxsize=2**16)(_number)


def _draw(drawn: list[tuple[str, str]], row: Example) -> None:
    """Keep the inputs whose ids have the smallest hashes, and at most twice as many as are wanted."""
    drawn.append((digest(row.id, size=8), row.input))
    if len(drawn) == 2 * DRAWN:
        drawn.sort()
        del drawn[DRAWN:]


def _nearest(texts: Sequence[str], encode: Callable[[Sequence[str]], NDArray[Any]] | None) -> float | None:
    if encode is None or len(texts) < 2:
        return None
    import numpy as np

    vectors = encode(texts)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    return round(float(cosines.max(axis=1).mean()), 4)  # more digits are not the same on every machine
