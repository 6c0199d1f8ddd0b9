"""Minimal pairs: of two sentences that differ in little, does a model find the acceptable one more likely?

BLiMP (Warstadt et al. 2020, arXiv 1912.00582), the BabyLM supplement to it, and any file of such pairs. A pair is a
test row of kind pretraining, as ``Task.pair`` makes it. A tie counts wrong, as by BLiMP's own criterion;
lm-evaluation-harness, whose choice is the first of the best, counts it right.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, tee
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DataError
from understudy.evaluation.statistics import Interval
from understudy.records import Dropped, Example, Prediction, Row
from understudy.task import PARADIGM

Floats: TypeAlias = NDArray[np.float64]
Scorer: TypeAlias = Callable[[Iterable[str]], Iterator[float]]
Cell: TypeAlias = tuple[str, ...]  # the group of each column that some pairs are in

CHANCE = 0.5
UNKNOWN_WORD = "unknown_word"
WRONG, RIGHT, TIE = range(3)
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the good sentence was the likelier one; ``ties`` are of all seeds together."""

    pairs: int
    ties: int
    interval: Interval


@dataclass(frozen=True, slots=True)
class PairReport:
    """The accuracies of a model, or of several that differ in their seeds.

    ``overall`` counts every pair alike, ``over_paradigms`` every paradigm, as BLiMP's averages do: the two differ where
    paradigms have different numbers of pairs, as after a filter. It is ``None`` where paradigms were not asked for.
    """

    overall: Accuracy
    over_paradigms: Accuracy | None
    groups: Mapping[str, Mapping[str, Accuracy]]  # column -> value, such as "linguistics_term" -> "island_effects"


def predictions(rows: Iterable[Example], scorer: Scorer) -> Iterator[Prediction]:
    """The likelier sentence of each pair, ``None`` for a tie, in order; memory is the scorer's.

    Args:
        scorer: how likely each sentence is, in order, as a number that is higher for the likelier one; it is given the
            choices of each row.

    Raises:
        DataError: the scorer gives more or fewer scores than there are sentences, or one that is no number.
    """
    rows, ahead = tee(rows)
    scores = scorer(sentence for row in ahead for sentence in row.choices)
    for row in rows:
        found = list(islice(scores, len(row.choices)))
        if len(found) < len(row.choices):
            raise DataError("a scorer gives a score a sentence, this one gave fewer")
        if any(map(math.isnan, found)):
            raise DataError(f"the scores of {row.choices!r} are {found}; check the model's weights")
        best = max(found)
        yield Prediction(row.choices[found.index(best)] if found.count(best) == 1 else None)
    if next(scores, None) is not None:
        raise DataError("a scorer gives a score a sentence, this one gave more")


def accuracies(
    rows: Sequence[Example],
    runs: Sequence[Sequence[Prediction]],
    by: Sequence[str] = (),
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> PairReport:
    """The accuracies over runs that judged the same pairs, one a seed, with 95 % intervals.

    Each resample of the bootstrap draws the pairs of every cell of groups and, as ``statistics.interval`` does, the
    seeds, both with replacement; the paradigms are what they are.

    Args:
        by: columns of the rows: each of their values is a group.

    Raises:
        DataError: there are no rows or runs, or a run has another number of rows.
    """
    if not rows or not runs:
        raise DataError(f"nothing to score: {len(rows)} pairs, {len(runs)} runs; check the file of pairs")
    for run in runs:
        if len(run) != len(rows):
            raise DataError(f"{len(run)} predictions for {len(rows)} pairs; predict them all again")
    sampled = _sampled(_cells(rows, runs, by), len(runs), resamples, seed)
    groups: dict[str, dict[str, list[_Sampled]]] = {}
    for place, column in enumerate(by):
        of_value: dict[str, list[_Sampled]] = defaultdict(list)
        for one in sampled:
            if one.cell[place]:
                of_value[one.cell[place]].append(one)
        groups |= {column: dict(sorted(of_value.items()))} if of_value else {}
    paradigms = groups.get(PARADIGM)
    return PairReport(
        overall=_accuracy([sampled]),
        over_paradigms=_accuracy(list(paradigms.values())) if paradigms else None,
        groups={name: {value: _accuracy([some]) for value, some in found.items()} for name, found in groups.items()},
    )


def group_of(row: Example, column: str) -> str:
    """The group that a pair is in, nothing where its row does not say.

    Where there is no paradigm the file's name stands for it, as BabyLM keeps a file a paradigm.
    """
    value = row.fields.get(column)
    if value is None and column == PARADIGM and row.origin:
        value = row.origin.dataset.rpartition("/")[2]
    # BLiMP writes syntax/semantics in one paradigm and syntax_semantics in the others.
    return "" if value is None else str(value).replace("/", "_")


def with_known_words(rows: Iterable[Example], texts: Iterable[str], at_least: int = 2) -> Iterator[Row]:
    """The pairs, those dropped that hold a word which stands in the texts less often; BabyLM's pipeline asks for 2."""
    counts = Counter(word for text in texts for word in words_of(text))
    for row in rows:
        unknown = next((word for word in words_of(" ".join(row.choices)) if counts[word] < at_least), None)
        if unknown is None:
            yield row
        else:
            told = f"{unknown!r} stands {counts[unknown]} times in the training text, fewer than {at_least}"
            yield Dropped(row, "test", UNKNOWN_WORD, told)


def words_of(text: str) -> list[str]:
    """The words of a text as they are looked up: case-folded; what an apostrophe or hyphen joins is one."""
    return _WORD.findall(text.replace("’", "'").casefold())


class _Sampled(NamedTuple):
    """The pairs of one cell."""

    cell: Cell
    pairs: int
    ties: int
    means: Floats  # (seeds,): the share of its pairs that each run has right
    draws: Floats  # (resamples,): the same over the drawn seeds, on drawn pairs


def _cells(
    rows: Sequence[Example], runs: Sequence[Sequence[Prediction]], by: Sequence[str]
) -> dict[Cell, Counter[tuple[int, ...]]]:
    """Of each cell, how many pairs the runs judged how; sorted, so that the order of the pairs leaves no trace."""
    cells: dict[Cell, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for row, *answers in zip(rows, *runs, strict=True):
        judged = (TIE if not one.output else RIGHT if one.output == row.target else WRONG for one in answers)
        cells[tuple(group_of(row, column) for column in by)][tuple(judged)] += 1
    return {cell: cells[cell] for cell in sorted(cells)}


def _sampled(
    cells: Mapping[Cell, Mapping[tuple[int, ...], int]], seeds: int, resamples: int, seed: int
) -> list[_Sampled]:
    random = np.random.default_rng(seed)
    drawn_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    sampled = []
    for cell, judged in cells.items():
        counts = sorted(judged.items())
        kinds, alike = np.array([kind for kind, _ in counts]), np.array([count for _, count in counts])
        size = int(alike.sum())
        right = (kinds == RIGHT).astype(np.float64)  # (kinds, seeds)
        drawn = random.multinomial(size, alike / size, size=resamples) @ right / size
        ties = int(alike @ (kinds == TIE).sum(1))
        sampled.append(_Sampled(cell, size, ties, alike @ right / size, (drawn * drawn_seeds).sum(1) / seeds))
    return sampled


def _accuracy(parts: Sequence[Sequence[_Sampled]]) -> Accuracy:
    """Of cells in parts: a part's pairs count alike, and so do the parts."""
    means, draws = [], []
    for cells in parts:
        pairs = sum(one.pairs for one in cells)
        means.append(sum(one.means * (one.pairs / pairs) for one in cells))
        draws.append(sum(one.draws * (one.pairs / pairs) for one in cells))
    per_seed, drawn = np.mean(means, axis=0), np.mean(draws, axis=0)
    mean, (low, high) = float(per_seed.mean()), np.quantile(drawn, [0.025, 0.975])
    every = [one for cells in parts for one in cells]
    return Accuracy(
        pairs=sum(one.pairs for one in every),
        ties=sum(one.ties for one in every),
        interval=Interval(mean, min(float(low), mean), max(float(high), mean), tuple(map(float, per_seed))),
    )
