"""Minimal pairs in a report: accuracies by groups, and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from understudy.report.tables import TextTable, with_interval
from understudy.task import PARADIGM

if TYPE_CHECKING:
    from understudy.evaluation.statistics import Interval

READING_PAIRS = (
    "Of each pair the model chooses the likelier sentence; a tie counts wrong, and a guess has .500. *All pairs*: each "
    "pair counts alike. *All paradigms*: each paradigm does. The intervals draw seeds and pairs: for *all pairs*, as "
    "for the scores above, from all of them, elsewhere within each paradigm."
)

FEW = 12  # paradigms


def scores_by_group(test: Sequence[Any], runs: Sequence[Any], by: Sequence[str]) -> dict[str, Any]:
    """The accuracies of an arm beside the overall one, as plain values.

    Returns:
        ``groups``: column -> value -> ``{mean, low, high, per_seed, pairs, at_chance, below_chance}``;
        ``over_paradigms``, where a column is UID: the same over paradigms; ``ties``: those of all seeds together.

    Raises:
        DataError: as ``evaluation.minimal_pairs.accuracies``.
    """
    from understudy.evaluation.minimal_pairs import CHANCE, Accuracy, accuracies

    def values(one: Accuracy) -> dict[str, Any]:
        return {**interval_values(one.interval), "pairs": one.pairs, **beside_chance(one.interval, CHANCE)}

    found = accuracies(test, runs, by)
    over = {"over_paradigms": values(found.over_paradigms)} if found.over_paradigms else {}
    groups = {column: {name: values(one) for name, one in some.items()} for column, some in found.groups.items()}
    return {"groups": groups, **over, "ties": found.overall.ties}


def interval_values(found: Interval) -> dict[str, Any]:
    """``{mean, low, high, per_seed}``, rounded."""
    ends = {"mean": found.mean, "low": found.low, "high": found.high}
    return {name: round(end, 6) for name, end in ends.items()} | {"per_seed": [round(one, 6) for one in found.per_seed]}


def beside_chance(found: Interval, chance: float | None) -> dict[str, bool]:
    """``at_chance``: the 95 % interval holds what a guess reaches. ``below_chance``: all of it is lower."""
    if chance is None:
        return {"at_chance": False, "below_chance": False}
    low, high, chance = (round(end, 6) for end in (found.low, found.high, chance))  # as they stand in the report
    return {"at_chance": low <= chance <= high, "below_chance": high < chance}


def groups_table(report: Mapping[str, Any], by: Sequence[str] = ()) -> TextTable:
    """A line a group, a column an arm; no line where no arm judged pairs.

    Args:
        by: which columns of the pairs; by default all but that of the paradigms where they are many.
    """
    arms = {name: arm for name, arm in report["arms"].items() if "groups" in arm}
    headings, right = ("", "group", "pairs", *arms), frozenset({2})
    if not arms:
        return TextTable(headings, (), right)
    first = next(iter(arms.values()))
    rows = [("", "all pairs", f"{report['study']['test_rows']:,}", *_scores(arms, "metrics", "accuracy"))]
    if "over_paradigms" in first:
        name = f"all {len(first['groups'][PARADIGM]):,} paradigms"
        rows.append(("", name, f"{first['over_paradigms']['pairs']:,}", *_scores(arms, "over_paradigms")))
    for column, found in first["groups"].items():
        if column in by if by else column != PARADIGM or len(found) <= FEW:
            rows += [
                ("" if place else column, value, f"{one['pairs']:,}", *_scores(arms, "groups", column, value))
                for place, (value, one) in enumerate(found.items())
            ]
    return TextTable(headings, rows, right)


def _scores(arms: Mapping[str, Any], *keys: str) -> list[str]:
    """What stands in each arm under the keys."""
    texts = []
    for arm in arms.values():
        found = arm
        for key in keys:
            found = found[key]
        text = with_interval(found)
        texts.append(text if len(arms) > 1 else text.replace("\n", " "))  # one has the room
    return texts
