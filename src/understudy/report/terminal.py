"""The table of arms for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from understudy.report.tables import score_table

if TYPE_CHECKING:
    from rich.table import Table


def terminal_table(report: Mapping[str, Any]) -> Table:
    """The table of REPORT.md for a ``rich`` console, without the chains; it fits 80 columns by breaking cells."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = score_table(report)
    shown = [i for i, heading in enumerate(table.headings) if heading != "chain"]
    drawn = Table(title=Text(report["study"]["name"]), box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for i in shown:
        words = [word for row in (table.headings, *table.rows) for word in row[i].split()]
        drawn.add_column(
            Text(table.headings[i]),
            justify="right" if i in table.right else "left",
            min_width=min(12, max(map(len, words))),  # or rich cuts numbers in the middle
        )
    for row in table.rows:
        drawn.add_row(*(Text(row[i]) for i in shown))
    return drawn
