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
Judged: TypeAlias = tuple[int, ...]  # one pair, by each run: WRONG, RIGHT or TIE

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

    Each resample of the bootstrap draws pairs within their paradigm and, as ``statistics.interval`` does, the seeds,
    both with replacement; the paradigms are what they are. Of a group that is a part of some paradigms, the pairs of
    each part are drawn. No interval depends on which other columns there are.

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
    judged = _judged(rows, runs)
    paradigms = [group_of(row, PARADIGM) for row in rows]

    def sampled(groups: Iterable[str]) -> Iterator[tuple[str, _Sampled]]:
        """Each group in the order of names, and its pairs."""
        cells: dict[str, dict[str, Counter[Judged]]] = defaultdict(lambda: defaultdict(Counter))
        for group, paradigm, one in zip(groups, paradigms, judged, strict=True):
            cells[group][paradigm][one] += 1
        sample = _sampler(len(runs), resamples, seed)
        for group, parts in sorted(cells.items()):
            yield group, _together(sample(parts[paradigm]) for paradigm in sorted(parts))

    groups: dict[str, dict[str, Accuracy]] = {}
    for column in by:
        found = {name: _accuracy(one) for name, one in sampled(group_of(row, column) for row in rows) if name}
        groups |= {column: found} if found else {}
    overall = _together(one for _, one in sampled("" for _ in rows))
    named = (one for name, one in sampled(paradigms) if name)
    return PairReport(
        overall=_accuracy(overall),
        over_paradigms=_accuracy(_together(named, alike=True)) if PARADIGM in groups else None,
        groups=groups,
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
    """Some pairs, judged by every run, and drawn."""

    pairs: int
    ties: int
    means: Floats  # (seeds,): the share of the pairs that each run has right
    draws: Floats  # (resamples,): the same over the drawn seeds, on drawn pairs


def _judged(rows: Sequence[Example], runs: Sequence[Sequence[Prediction]]) -> list[Judged]:
    return [
        tuple(TIE if not one.output else RIGHT if one.output == row.target else WRONG for one in answers)
        for row, *answers in zip(rows, *runs, strict=True)
    ]


def _sampler(seeds: int, resamples: int, seed: int) -> Callable[[Mapping[Judged, int]], _Sampled]:
    """What draws from the pairs of one cell, told how many were judged how; the order of the pairs leaves no trace."""
    random = np.random.default_rng(seed)
    drawn_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)

    def sample(judged: Mapping[Judged, int]) -> _Sampled:
        counts = sorted(judged.items())
        kinds, alike = np.array([kind for kind, _ in counts]), np.array([count for _, count in counts])
        size = int(alike.sum())
        right = (kinds == RIGHT).astype(np.float64)  # (kinds, seeds)
        drawn = random.multinomial(size, alike / size, size=resamples) @ right / size
        ties = int(alike @ (kinds == TIE).sum(1))
        return _Sampled(size, ties, alike @ right / size, (drawn * drawn_seeds).sum(1) / seeds)

    return sample


def _together(parts: Iterable[_Sampled], *, alike: bool = False) -> _Sampled:
    """Of some parts, each pair of which counts alike, or where they are ``alike`` each part."""
    pairs, ties, weights = 0, 0, 0
    means, draws = np.zeros(1), np.zeros(1)
    for part in parts:
        weight = 1 if alike else part.pairs
        pairs, ties, weights = pairs + part.pairs, ties + part.ties, weights + weight
        means, draws = means + part.means * weight, draws + part.draws * weight
    return _Sampled(pairs, ties, means / weights, draws / weights)


def _accuracy(found: _Sampled) -> Accuracy:
    mean, (low, high) = float(found.means.mean()), np.quantile(found.draws, [0.025, 0.975])
    interval = Interval(mean, min(float(low), mean), max(float(high), mean), tuple(map(float, found.means)))
    return Accuracy(found.pairs, found.ties, interval)
