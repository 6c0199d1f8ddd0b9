"""``sweep.svg``: the first metric of every arm over a sweep's first key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from understudy.report.drawing import COLOURS, DASHES, MARKERS, picture_of, shortened
from understudy.report.sweep_tables import runs_at, value_text
from understudy.report.tables import metric_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_APART_POINTS = 5.0  # the arms' marks at one value stand so far from one another, all of them together within _ASIDE
_ASIDE_POINTS = 30.0
_AXIS_POINTS = 250.0  # about how far the last value stands from the first
_LETTER_POINTS = 5.6
_LOG_FROM = 10  # values that span more than this factor stand on a logarithmic axis


def sweep_picture(sweep: Mapping[str, Any], format: str = "svg") -> bytes:
    """The picture of a sweep; the same report gives the same bytes.

    Bars are 95 % intervals. Where several runs have one value, the line goes through their means instead, and small
    marks are the single runs.

    Args:
        format: any that matplotlib writes.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    return picture_of(lambda figure: _draw(figure, sweep), _title(sweep), format)


@dataclass(frozen=True, slots=True)
class _Mark:
    """One arm at one place of the axis."""

    place: float
    mean: float
    low: float
    high: float
    runs: Sequence[float] = ()
    """The single runs, where there are several."""


def _draw(figure: Figure, sweep: Mapping[str, Any]) -> None:
    axes = figure.add_subplot()
    places = _places(sweep)
    nearest_points = _scale(axes, sweep, places)
    arms = dict.fromkeys(name for point in sweep["points"] for name in point["arms"])
    curves = {arm: marks for arm in arms if (marks := _marks(sweep, arm, places))}
    apart_points = min(_APART_POINTS, min(_ASIDE_POINTS, nearest_points * 0.4) / max(1, len(curves) - 1))
    ends: list[tuple[float, Any, str]] = []
    for number, (arm, marks) in enumerate(curves.items()):
        sideways = (number - (len(curves) - 1) / 2) * apart_points
        ends.append((marks[-1].mean, _line(axes, marks, number, sideways), arm))
    ends.sort(key=lambda end: -end[0])  # the legend's lines as the curves end, from the top
    every = [score for marks in curves.values() for one in marks for score in (one.low, one.high, *one.runs)]
    margin = 0.05 * ((max(every) - min(every)) or 0.1)
    axes.set_ylim(min(every) - margin, max(every) + margin)  # it does not follow what stands aside by itself
    figure.legend(
        [line for _, line, _ in ends],
        [shortened(arm) for *_, arm in ends],
        loc="outside right upper",
        handlelength=3.4,
    )
    metric = sweep["study"]["metrics"][0]
    axes.set_ylabel(metric_title(metric))
    several = any(mark.runs for marks in curves.values() for mark in marks)
    shown = "means of the runs, each run a small mark" if several else "with 95 % intervals"
    axes.set_title(f"{shortened(sweep['study']['name'])}: {metric_title(metric)}, {shown}", loc="left", fontsize=10)


def _line(axes: Axes, marks: Sequence[_Mark], number: int, sideways_points: float) -> Any:
    """An arm's curve with its bars or single runs; what the legend shows of it."""
    from matplotlib.transforms import ScaledTranslation

    moved = axes.transData + ScaledTranslation(sideways_points / 72, 0, axes.figure.dpi_scale_trans)
    style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
    for mark in marks:
        if mark.runs:
            few = [mark.place] * len(mark.runs)
            axes.plot(few, mark.runs, **style, ls="", markersize=3, mfc="white", mew=0.8, zorder=3, transform=moved)
    bars = [[mark.mean - mark.low for mark in marks], [mark.high - mark.mean for mark in marks]]
    return axes.errorbar(
        [mark.place for mark in marks],
        [mark.mean for mark in marks],
        yerr=None if all(mark.runs for mark in marks) else bars,
        **style,
        linestyle=DASHES[number % len(DASHES)],
        linewidth=1.4,
        markersize=5,
        elinewidth=0.9,
        capsize=2,
        transform=moved,
    )


def _marks(sweep: Mapping[str, Any], arm: str, places: Sequence[float]) -> list[_Mark]:
    metric = sweep["study"]["metrics"][0]
    marks = []
    for place, point in zip(places, sweep["points"], strict=True):
        found = point["arms"].get(arm, {"metrics": {}})["metrics"].get(metric)
        if found and point["runs"] > 1:
            marks.append(_Mark(place, found["mean"], found["mean"], found["mean"], found["per_run"]))
        elif found:
            one = runs_at(sweep, point)[0]["arms"][arm]["metrics"][metric]
            marks.append(_Mark(place, one["mean"], one["low"], one["high"]))
    return sorted(marks, key=lambda mark: mark.place)


def _places(sweep: Mapping[str, Any]) -> list[float]:
    """Where each value stands on the axis: the gold rows, the number that it is, or one after the other."""
    points = sweep["points"]
    if sweep["sets_gold_rows"]:
        return [point["gold_rows"] for point in points]
    numbers = [_number(point["value"]) for point in points]
    return [float(i) if None in numbers else number or 0.0 for i, number in enumerate(numbers)]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)  # also of 1e-4, which YAML takes for a text
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _scale(axes: Axes, sweep: Mapping[str, Any], places: Sequence[float]) -> float:
    """Lay out the axis of the values; returns about how many points the two nearest of them are apart."""
    label_at = dict(zip(places, (_label(point) for point in sweep["points"]), strict=True))
    ticks = sorted(label_at)
    is_number = sweep["sets_gold_rows"] or all(_number(point["value"]) is not None for point in sweep["points"])
    if is_number and ticks[0] > 0 and ticks[-1] / ticks[0] > _LOG_FROM:
        axes.set_xscale("log")
        shares = [math.log(tick / ticks[0]) / math.log(ticks[-1] / ticks[0]) for tick in ticks]
    else:
        shares = [(tick - ticks[0]) / ((ticks[-1] - ticks[0]) or 1) for tick in ticks]
    labels = [label_at[tick] for tick in ticks]
    shown = _apart(labels, shares)
    if is_number or shown == labels:
        axes.set_xticks(ticks, shown)
    else:
        axes.set_xticks(ticks, labels, rotation=25, ha="right")
    axes.minorticks_off()
    if axes.get_xscale() == "log":
        beside = (ticks[-1] / ticks[0]) ** 0.09
        axes.set_xlim(ticks[0] / beside, ticks[-1] * beside)
    else:
        beside = 0.09 * ((ticks[-1] - ticks[0]) or 1)
        axes.set_xlim(ticks[0] - beside, ticks[-1] + beside)
    key = next(iter(sweep["keys"]))
    axes.set_xlabel(f"gold rows ({key})" if sweep["sets_gold_rows"] else key)
    return min((b - a for a, b in pairwise(shares)), default=1.0) * _AXIS_POINTS


def _apart(labels: Sequence[str], shares: Sequence[float]) -> list[str]:
    """The labels, from the right, without those that would run into the next one."""
    kept: list[str] = []
    free_points = math.inf
    for label, share in zip(reversed(labels), reversed(shares), strict=True):
        half = max(map(len, label.split("\n"))) * _LETTER_POINTS / 2
        at = share * _AXIS_POINTS
        fits = at + half <= free_points
        kept.append(label if fits else "")
        free_points = at - half - _LETTER_POINTS if fits else free_points
    return kept[::-1]


def _label(point: Mapping[str, Any]) -> str:
    return "\n".join(shortened(line) for line in value_text(point, between="\n").split("\n"))


def _title(sweep: Mapping[str, Any]) -> str:
    return f"{sweep['study']['name']}: {metric_title(sweep['study']['metrics'][0])}"
