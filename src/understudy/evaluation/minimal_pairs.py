"""Minimal pairs: of two sentences that differ in little, does a model find the acceptable one more likely?

BLiMP (Warstadt et al. 2020, arXiv 1912.00582), the BabyLM supplement to it, and any file of such pairs. A tie counts
half, so that a model that tells nothing apart has 50 %: BLiMP's own criterion counts it wrong, lm-evaluation-harness,
whose choice is the first of the best, counts it right.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DataError
from understudy.evaluation.statistics import Interval
from understudy.settings import did_you_mean
from understudy.sources import Source, read

Floats: TypeAlias = NDArray[np.float64]
Scorer: TypeAlias = Callable[[Iterable[str]], Iterator[float]]

GROUPS = ("linguistics_term", "field")
WRONG, TIE, RIGHT = 0, 1, 2  # what a pair is worth, in halves
UNKNOWN_WORD = "unknown_word"
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Pair:
    """An acceptable sentence and one that is not."""

    good: str
    bad: str
    paradigm: str
    groups: Mapping[str, str] = field(default_factory=dict)  # {"linguistics_term": "island_effects", "field": "syntax"}


class Cell(NamedTuple):
    """Pairs of one paradigm and the same groups."""

    paradigm: str
    groups: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """What one model made of some pairs: a cell and a worth (wrong, tie, right) of each, in the order of the pairs."""

    cells: tuple[Cell, ...]
    halves: bytes
    dropped: Mapping[str, Mapping[str, int]]  # reason -> paradigm -> pairs


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often the good sentence was the more likely one, with 95 % intervals.

    ``over_pairs`` counts every pair alike. ``over_paradigms`` counts every paradigm alike, as BLiMP's averages do: the
    two differ where paradigms have different numbers of pairs, as after a filter. ``ties`` are of all seeds together.
    """

    pairs: int
    ties: int
    over_pairs: Interval
    over_paradigms: Interval


@dataclass(frozen=True, slots=True)
class PairReport:
    """The accuracies of a model, or of several that differ in their seeds."""

    overall: Accuracy
    paradigms: Mapping[str, Accuracy]
    groups: Mapping[str, Mapping[str, Accuracy]]  # column -> value, such as "linguistics_term" -> "island_effects"
    dropped: Mapping[str, Mapping[str, int]]  # reason -> paradigm -> pairs


def read_pairs(
    source: Source | str,
    *,
    good: str = "sentence_good",
    bad: str = "sentence_bad",
    paradigm: str = "UID",
    groups: Sequence[str] = GROUPS,
) -> Iterator[Pair]:
    """The pairs of a file, in its order, under the names that its columns have.

    Where a row has no ``paradigm`` the file's name stands for it, as BabyLM keeps a file a paradigm; a column of
    ``groups`` that it does not have is left out.

    Raises:
        DataError: the file cannot be read, or a row has no good or no bad sentence.
    """
    source = source if isinstance(source, Source) else Source(path=source)
    for number, row in read(source):
        first, second = (_sentence(source, number, row, column) for column in (good, bad))
        # BLiMP writes syntax/semantics in one paradigm and syntax_semantics in the others.
        of_groups = {name: str(row[name]).replace("/", "_") for name in groups if row.get(name) is not None}
        yield Pair(first, second, str(row.get(paradigm) or source.dataset.rpartition("/")[2]), of_groups)


def _sentence(source: Source, number: int, row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise DataError(f"{source.place}: row {number} has no column {column!r}. {did_you_mean(column, list(row))}")
    if not isinstance(row[column], str) or not row[column].strip():
        raise DataError(f"{source.place}: row {number}: {column}: {row[column]!r} is no sentence; take the row out")
    return row[column]


def words_of(text: str) -> list[str]:
    """The words of a text as ``known_words`` compares them: case-folded; what an apostrophe or hyphen joins is one."""
    return _WORD.findall(text.replace("’", "'").casefold())


def vocabulary(texts: Iterable[str], at_least: int = 2) -> frozenset[str]:
    """The words that occur so often in the texts; BabyLM's pipeline keeps pairs whose words all occur twice."""
    counts = Counter(word for text in texts for word in words_of(text))
    return frozenset(word for word, count in counts.items() if count >= at_least)


def evaluate_pairs(
    pairs: Iterable[Pair],
    scorer: Scorer,
    *,
    known_words: Container[str] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> PairReport:
    """The accuracies of one model; memory grows by some bytes a pair.

    Args:
        scorer: how likely each sentence is, in order, as a number that is higher for the likelier one; each pair's good
            sentence comes before its bad one.
        known_words: as ``judge``.

    Raises: as ``judge`` and ``summarise``.
    """
    return summarise([judge(pairs, scorer, known_words=known_words)], resamples=resamples, seed=seed)


def judge(pairs: Iterable[Pair], scorer: Scorer, *, known_words: Container[str] | None = None) -> Judged:
    """What a model makes of each pair.

    Args:
        known_words: pairs with a word, as ``words_of`` has it, that is not among these are dropped; ``None`` keeps all.

    Raises:
        DataError: the scorer gives more or fewer scores than there are sentences, or one that is no number.
    """
    cells: dict[Cell, Cell] = {}
    of_pair: list[Cell] = []
    dropped: dict[str, Counter[str]] = defaultdict(Counter)

    def sentences() -> Iterator[str]:
        for pair in pairs:
            if known_words is not None and any(w not in known_words for w in words_of(f"{pair.good} {pair.bad}")):
                dropped[UNKNOWN_WORD][pair.paradigm] += 1
                continue
            cell = Cell(pair.paradigm, tuple(sorted(pair.groups.items())))
            of_pair.append(cells.setdefault(cell, cell))
            yield pair.good
            yield pair.bad

    scores = array("d", scorer(sentences()))
    if len(scores) != 2 * len(of_pair):
        raise DataError(f"{len(scores)} scores for {2 * len(of_pair)} sentences; a scorer gives one a sentence")
    halves = bytes(map(_worth, scores[::2], scores[1::2]))
    return Judged(tuple(of_pair), halves, {reason: dict(counts) for reason, counts in dropped.items()})


def summarise(runs: Sequence[Judged], *, resamples: int = 2000, seed: int = 0) -> PairReport:
    """The accuracies over runs that judged the same pairs, one a seed.

    Each resample of the bootstrap draws the pairs of every paradigm and, as ``statistics.interval`` does, the seeds,
    both with replacement; the paradigms are what they are.

    Raises:
        DataError: there are no runs or no pairs, or the runs judged different pairs.
    """
    if not runs or not runs[0].cells:
        dropped = sum(sum(counts.values()) for run in runs[:1] for counts in run.dropped.values())
        raise DataError(f"no pairs to score ({dropped} dropped); check the file and the known words")
    if any(run.cells != runs[0].cells for run in runs):
        raise DataError("the runs judged different pairs; judge the same file with the same known words by each")
    sampled = _sampled(runs, resamples, seed)
    by_paradigm: dict[str, list[_Sampled]] = defaultdict(list)
    by_group: dict[str, dict[str, list[_Sampled]]] = defaultdict(lambda: defaultdict(list))
    for one in sampled:
        by_paradigm[one.cell.paradigm].append(one)
        for column, value in one.cell.groups:
            by_group[column][value].append(one)
    return PairReport(
        overall=_accuracy(sampled),
        paradigms={name: _accuracy(some) for name, some in by_paradigm.items()},
        groups={
            column: {value: _accuracy(some) for value, some in sorted(of_value.items())}
            for column, of_value in by_group.items()
        },
        dropped=runs[0].dropped,
    )


def _worth(good: float, bad: float) -> int:
    if math.isnan(good) or math.isnan(bad):
        raise DataError(f"the scores of a pair are {good} and {bad}; check the model's weights")
    return TIE if good == bad else RIGHT if good > bad else WRONG


class _Sampled(NamedTuple):
    """The pairs of one cell."""

    cell: Cell
    pairs: int
    ties: int
    means: Floats  # (seeds,): the share of its pairs that each run has right
    draws: Floats  # (resamples,): the same over the drawn seeds, on drawn pairs


def _sampled(runs: Sequence[Judged], resamples: int, seed: int) -> list[_Sampled]:
    random = np.random.default_rng(seed)
    drawn_seeds = random.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=resamples)
    halves = np.array([np.frombuffer(run.halves, dtype=np.uint8) for run in runs])
    places: dict[Cell, list[int]] = defaultdict(list)
    for place, cell in enumerate(runs[0].cells):
        places[cell].append(place)
    sampled = []
    for cell in sorted(places):  # so that the order of the pairs leaves no trace
        here = halves[:, places[cell]]
        alike, counts = np.unique(here, axis=1, return_counts=True)  # (seeds, kinds): pairs alike in every run
        size = here.shape[1]
        drawn = random.multinomial(size, counts / size, size=resamples) @ alike.T / (RIGHT * size)
        draws = (drawn * drawn_seeds).sum(1) / len(runs)
        sampled.append(_Sampled(cell, size, int((here == TIE).sum()), here.mean(1) / RIGHT, draws))
    return sampled


def _accuracy(cells: Sequence[_Sampled]) -> Accuracy:
    of_paradigm: Counter[str] = Counter()
    for one in cells:
        of_paradigm[one.cell.paradigm] += one.pairs
    pairs = sum(of_paradigm.values())
    return Accuracy(
        pairs=pairs,
        ties=sum(one.ties for one in cells),
        over_pairs=_interval(cells, [one.pairs / pairs for one in cells]),
        over_paradigms=_interval(
            cells, [one.pairs / of_paradigm[one.cell.paradigm] / len(of_paradigm) for one in cells]
        ),
    )


def _interval(cells: Sequence[_Sampled], weights: Sequence[float]) -> Interval:
    per_seed = sum(weight * one.means for weight, one in zip(weights, cells, strict=True))
    draws = sum(weight * one.draws for weight, one in zip(weights, cells, strict=True))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(np.mean(per_seed)), float(low), float(high), tuple(map(float, np.atleast_1d(per_seed))))
