"""Rows for one who reads ahead and one who follows."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from understudy.records import Dropped, Example, Origin, Row
from understudy.workspace import twice


def rows(count: int) -> list[Row]:
    """Every third one is kept."""
    made = [
        Example(id=f"r{i}", input="café\n" * i, target=("a", "b"), fields={"n": [i]}, origin=Origin("d", "train", i))
        for i in range(count)
    ]
    return [row if i % 3 == 0 else Dropped(row, "step", "bad", f"no {i}") for i, row in enumerate(made)]


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 50])
def test_both_get_their_rows_in_order_however_far_one_is_ahead(tmp_path: Path, steps: int):
    ahead, behind = twice(rows(60), tmp_path / "folder")
    first = [next(behind)]
    got = [*islice(ahead, steps)]
    all_rows = [*first, *islice(behind, steps)]
    got += ahead
    all_rows += behind
    assert all_rows == rows(60)
    assert got == [row for row in rows(60) if isinstance(row, Example)]
    assert not (tmp_path / "folder").exists() or [*(tmp_path / "folder").iterdir()] == []


def test_dropped_rows_may_be_for_both(tmp_path: Path):
    ahead, behind = twice(rows(10), tmp_path, also=lambda row: row.example.id == "r4")
    assert [row.example.id if isinstance(row, Dropped) else row.id for row in ahead] == ["r0", "r3", "r4", "r6", "r9"]
    assert list(behind) == rows(10)
