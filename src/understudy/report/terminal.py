"""The tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from understudy.report.pairs import groups_table
from understudy.report.suite import suite_differences, suite_table
from understudy.report.sweep_tables import sweep_scores
from understudy.report.tables import TextTable, metric_title, score_table

if TYPE_CHECKING:
    from rich.table import Table


def terminal_tables(report: Mapping[str, Any]) -> list[Table]:
    """The table of REPORT.md for a ``rich`` console, and that of minimal pairs where there are any.

    They fit 80 columns by breaking cells.
    """
    tables = [terminal_of(score_table(report), report["study"]["name"])]
    return tables + ([terminal_groups(report, "minimal pairs")] if groups_table(report).rows else [])


def terminal_groups(report: Mapping[str, Any], title: str, by: Sequence[str] = ()) -> Table:
    """The accuracies of minimal pairs for a ``rich`` console, as ``groups_table`` says; names may break at ``_``."""
    table = groups_table(report, by)
    rows = [(*(name.replace("_", " ") for name in row[:2]), *row[2:]) for row in table.rows]
    return terminal_of(TextTable(table.headings, rows, table.right), title)


def terminal_sweep(sweep: Mapping[str, Any]) -> list[Table]:
    """The scores of SWEEP.md for a ``rich`` console, a table a metric."""
    name, key = sweep["study"]["name"], next(iter(sweep["keys"]))
    return [
        terminal_of(sweep_scores(sweep, metric), f"{name}: {metric_title(metric)} over {key}")
        for metric in sweep["study"]["metrics"]
    ]


def terminal_suite(told: Mapping[str, Any]) -> list[Table]:
    """The tables of table.md for a ``rich`` console: the scores, and of several models the differences."""
    title = f"fine-tuned on {told['suite']}"
    tables = [terminal_of(suite_table(told), title)]
    return tables + ([terminal_of(suite_differences(told), f"{title}: differences")] if len(told["models"]) > 1 else [])


def terminal_of(table: TextTable, title: str) -> Table:
    """A table for a ``rich`` console, without the chains."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = [i for i, heading in enumerate(table.headings) if heading != "chain"]
    drawn = Table(title=Text(title), box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i in shown:
        words = [word for row in (table.headings, *table.rows) for word in row[i].split()]
        drawn.add_column(
            Text(table.headings[i]),
            justify="right" if i in table.right else "left",
            min_width=min(12, max(map(len, words), default=1)),  # or rich cuts numbers in the middle
        )
    for row in table.rows:
        drawn.add_row(*(Text(row[i]) for i in shown))
    return drawn
