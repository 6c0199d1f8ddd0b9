"""The tables of a sweep: one line an arm, one column a value of the first key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from understudy.report.tables import TextTable, score_text, signed_text, verdict, with_interval


def sweep_scores(sweep: Mapping[str, Any], metric: str) -> TextTable:
    """Every arm's score with its 95 % interval, or, of several runs, their mean and each run's score."""

    def cell(point: Mapping[str, Any], arm: str) -> str:
        found = point["arms"][arm]["metrics"].get(metric)
        if found is None:
            return "-"
        if point["runs"] == 1:
            return with_interval(runs_at(sweep, point)[0]["arms"][arm]["metrics"][metric])
        return f"{score_text(found['mean'])}\n({', '.join(map(score_text, found['per_run']))})"

    return _table(sweep, cell)


def sweep_differences(sweep: Mapping[str, Any], metric: str) -> TextTable:
    """What every arm scores more than the first arm of the same run; of several runs the mean and each run's."""

    def cell(point: Mapping[str, Any], arm: str) -> str:
        found = [
            one
            for run in runs_at(sweep, point)
            for one in run["comparisons"]
            if (one["metric"], one["a"]) == (metric, arm)
        ]
        if len(found) == 1:
            (one,) = found
            return f"{signed_text(one['difference'])}\n[{signed_text(one['low'])}, {signed_text(one['high'])}]\n" + (
                verdict(one)
            )
        every = [one["difference"] for one in found]
        return f"{signed_text(sum(every) / len(every))}\n({', '.join(map(signed_text, every))})" if every else "-"

    return _table(sweep, cell)


def sweep_savings(sweep: Mapping[str, Any]) -> TextTable:
    """How many gold rows the gold-only student needs to equal each arm; no line for an arm that is not told."""

    def cell(point: Mapping[str, Any], arm: str) -> str:
        return point["arms"][arm].get("label_saving", {}).get("text", "-")

    return _table(sweep, cell)


def sweep_rows(sweep: Mapping[str, Any]) -> TextTable:
    """How many rows a student learnt from; of several runs the mean."""
    table = _table(sweep, lambda point, arm: f"{point['arms'][arm]['training_rows']:,}")
    return TextTable(table.headings, table.rows, frozenset(range(1, len(table.headings))))


def sweep_dropped(sweep: Mapping[str, Any]) -> TextTable:
    """Which rows were dropped, and why; of several runs all together. No line for an arm that lost none."""

    def cell(point: Mapping[str, Any], arm: str) -> str:
        dropped: Counter[str] = Counter()
        for run in runs_at(sweep, point):
            dropped.update(run["arms"].get(arm, {}).get("dropped", {}))
        return ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items())) or "-"

    return _table(sweep, cell)


def value_text(point: Mapping[str, Any], between: str = " ") -> str:
    """The value of the first key, and how many gold rows it comes to where that is another number."""
    if "gold_rows" not in point:
        return point["text"]
    rows = f"{point['gold_rows']:,}"
    return rows if point["text"] == str(point["gold_rows"]) else f"{point['text']}{between}({rows})"


def _table(sweep: Mapping[str, Any], cell: Callable[[Mapping[str, Any], str], str]) -> TextTable:
    points = sweep["points"]
    arms = dict.fromkeys(name for point in points for name in point["arms"])
    lines = [[cell(point, arm) if arm in point["arms"] else "-" for point in points] for arm in arms]
    rows = [(arm, *line) for arm, line in zip(arms, lines, strict=True) if {*line} != {"-"}]
    return TextTable(("arm", *(value_text(point) for point in points)), rows, frozenset())


def runs_at(sweep: Mapping[str, Any], point: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The runs with a point's value of the first key."""
    key = next(iter(sweep["keys"]))
    return [run for run in sweep["runs"] if run["texts"][key] == point["text"]]
