"""One row out of several that answer the same input, and how many of each label to ask for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from understudy.records import Dropped, Example, Row


def elected(samples: Sequence[Row], step: str) -> Row:
    """The row whose answer more samples give than any other, with the replies of all; else ``no_majority``.

    Samples that were dropped have no vote; where all were, the first one stands for them.
    """
    answered = [row for row in samples if isinstance(row, Example)]
    if not answered:
        return samples[0]
    votes = Counter(row.target for row in answered).most_common(2)
    best = next(row for row in answered if row.target == votes[0][0])
    best = best.replace(replies=tuple(key for row in answered for key in row.replies))
    if len(votes) > 1 and votes[0][1] == votes[1][1]:
        return Dropped(best, step, "no_majority", f"{votes[0][1]} samples each say {votes[0][0]!r} and {votes[1][0]!r}")
    return best


def quotas(total: int, shares: Sequence[int]) -> list[int]:
    """``total`` parted as ``shares`` are: whole numbers that add up to it, none off by 1 or more."""
    whole = sum(shares)
    ends = [total * sum(shares[:place]) // whole for place in range(len(shares) + 1)]
    return [after - before for before, after in pairwise(ends)]
