"""Rows as a prompt shows them: of the task in the form that a reply has, of another data set cut to what matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.records import Example

CELL_CHARACTERS, ROW_CHARACTERS = 250, 4000  # ReBase's


def written(row: Example, *, reasoning: bool, multilabel: bool) -> dict[str, Any]:
    """``input``, ``options`` where there are any, with ``reasoning`` the ``rationale`` if there is one, ``output``:
    a list for the labels of a multilabel row, the first of several references."""
    options = {"options": list(row.choices)} if row.choices else {}
    rationale = {"rationale": row.rationale} if reasoning and row.rationale else {}
    output = row.target if multilabel or not isinstance(row.target, tuple) else row.target[0]
    return {"input": row.input, **options, **rationale, "output": output}


def shortened(cells: Mapping[str, str], guessed: Sequence[str]) -> dict[str, str]:
    """Each cell cut to 250 characters; of a row that is longer than 4,000 all the same only the ``guessed`` columns."""
    cut = {column: text[:CELL_CHARACTERS] for column, text in cells.items()}
    return (
        cut if sum(map(len, (*cut, *cut.values()))) <= ROW_CHARACTERS else {column: cut[column] for column in guessed}
    )
