"""``curves.svg``: what the students of pretraining arms reached as they learnt, and where they ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from understudy.report.drawing import COLOURS, DASHES, MARKERS, picture_of, shortened
from understudy.report.tables import TextTable, score_text, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "curves.svg"
PANELS = {"loss": "held-back loss, nats a word", "accuracy": "accuracy on minimal pairs"}
READING_CURVES = (
    "*Thick*: the mean of the seeds; *thin*: each seed. *Loss*: on held-back text, in nats a word, as every tokenizer "
    "cuts words in its own way; what is reached in the first twentieth may lie above the picture. The table has the "
    "ends: the mean of the seeds, and the lowest and highest of them. *Perplexity*: a word, on excerpts of the same "
    "texts that the student reads whole. Masked students guess hidden tokens with both sides in sight: their loss and "
    "perplexity do not compare with those of causal ones."
)
_MARKS = 10  # about so many on a curve
_SKIPPED = 0.05  # of the tokens
_GUESS = 0.5
_FULL, _HIGH, _LEGEND_LINE = 9.0, 3.4, 0.2  # inches
_LEGEND_COLUMNS = 3

Line = tuple[list[float], list[float]]  # tokens, and what was measured there


def lines_of(arm: Mapping[str, Any], measure: str) -> list[Line]:
    """Of each seed that has any, the points at which ``measure`` was taken, by tokens."""
    lines: list[Line] = []
    for curve in arm.get("curves", {}).values():
        points = sorted((one["tokens"], one[measure]) for one in curve if one.get(measure) is not None)
        if points:
            lines.append(([tokens for tokens, _ in points], [value for _, value in points]))
    return lines


def curves_picture(report: Mapping[str, Any], format: str = "svg") -> bytes:
    """Held-back loss, and accuracy where it was taken, over the tokens trained on; a curve an arm.

    Args:
        report: one in which ``has_curves``.
        format: any that matplotlib writes.

    Raises:
        MissingPackage: matplotlib is not installed.
    """
    panels = [measure for measure in PANELS if _measured(report, measure)]
    legend_lines = -(-len(report["arms"]) // _LEGEND_COLUMNS)
    size = (_FULL if len(panels) > 1 else _FULL * 0.6, _HIGH + legend_lines * _LEGEND_LINE)
    title = f"{report['study']['name']}: learning curves"
    return picture_of(lambda figure: _draw(figure, report, panels), title, format, size)


def has_curves(report: Mapping[str, Any]) -> bool:
    """Whether there is anything to draw."""
    return any(_measured(report, measure) for measure in PANELS)


def ends_table(report: Mapping[str, Any]) -> TextTable:
    """Where each arm's students ended: tokens, and what was measured last."""
    rows = []
    for name, arm in report["arms"].items():
        loss, accuracy = (lines_of(arm, measure) for measure in PANELS)
        if loss or accuracy or arm.get("perplexity_a_word"):
            tokens = [line[0][-1] for line in loss or accuracy]
            rows.append(
                (
                    name,
                    short_number(round(fmean(tokens))) if tokens else "-",
                    _spread([line[1][-1] for line in loss], "{:.3f}".format),
                    _spread(list(arm.get("perplexity_a_word", {}).values()), "{:,.1f}".format),
                    _spread([line[1][-1] for line in accuracy], score_text),
                )
            )
    headings = ("arm", "tokens", "held-back\nloss", "perplexity\na word", "accuracy\nas it learnt")
    kept = [i for i in range(len(headings)) if i < 2 or any(row[i] != "-" for row in rows)]
    return TextTable(
        [headings[i] for i in kept], [[row[i] for i in kept] for row in rows], frozenset(range(1, len(kept)))
    )


def _measured(report: Mapping[str, Any], measure: str) -> bool:
    return any(lines_of(arm, measure) for arm in report["arms"].values())


def _spread(values: Sequence[float], text: Any) -> str:
    if not values:
        return "-"
    ends = f"\n({text(min(values))} to {text(max(values))})" if len(values) > 1 else ""
    return f"{text(fmean(values))}{ends}"


def _draw(figure: Figure, report: Mapping[str, Any], panels: Sequence[str]) -> None:
    shown: dict[str, Any] = {}
    for place, measure in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for number, (name, arm) in enumerate(report["arms"].items()):
            if lines := lines_of(arm, measure):
                shown.setdefault(name, _curve(axes, lines, number))
        if measure == "accuracy":
            axes.axhline(_GUESS, color="#888888", linewidth=0.8, linestyle=(0, (4, 3)))
            axes.annotate("chance", (1, _GUESS), (0, -3), xycoords=("axes fraction", "data"), ha="right", va="top",
                          textcoords="offset points", color="#666666", fontsize=8)  # fmt: skip
        axes.set_title(PANELS[measure], loc="left", fontsize=10)
        axes.set_xlabel("tokens trained on")
        if measure == "loss":
            axes.set_ylim(top=_top(report))
        axes.xaxis.set_major_formatter(lambda tokens, _: short_number(round(tokens)).replace(".0", ""))
        axes.xaxis.set_major_locator(_few_ticks())
    figure.legend(
        list(shown.values()),
        [shortened(name) for name in shown],
        loc="outside lower center",
        ncols=min(_LEGEND_COLUMNS, len(shown)),
        handlelength=3.4,
    )


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10])


def _curve(axes: Axes, lines: Sequence[Line], number: int) -> Any:
    """An arm's seeds and their mean; what the legend shows of it."""
    colour, dashes = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
    if len(lines) > 1:
        for tokens, values in lines:
            axes.plot(tokens, values, color=colour, linestyle=dashes, linewidth=0.7, alpha=0.45)
    tokens, means = _mean(lines)
    marker, every = MARKERS[number % len(MARKERS)], -(-len(tokens) // _MARKS)
    (line,) = axes.plot(
        tokens, means, color=colour, linestyle=dashes, linewidth=2, marker=marker, markersize=4, markevery=every
    )
    return line


def _top(report: Mapping[str, Any]) -> float:
    """The highest loss after the first part of the tokens; before it all curves fall alike and far."""
    lines = [line for arm in report["arms"].values() for line in lines_of(arm, "loss")]
    begins = _SKIPPED * max(tokens[-1] for tokens, _ in lines)
    highest = max(
        value for line in lines for tokens, value in zip(*line, strict=True) if tokens >= min(begins, line[0][-1])
    )
    lowest = min(value for _, values in lines for value in values)
    return highest + 0.05 * ((highest - lowest) or 0.1)


def _mean(lines: Sequence[Line]) -> Line:
    """Over the tokens that every seed has come to, as seeds are not measured at the same number of them."""
    import numpy as np

    first, last = max(tokens[0] for tokens, _ in lines), min(tokens[-1] for tokens, _ in lines)
    most = max(lines, key=lambda line: len(line[0]))[0]
    at = sorted({first, *(tokens for tokens in most if first < tokens < last), last})
    return at, list(map(float, np.mean([np.interp(at, *line) for line in lines], axis=0)))
