"""The lock on the test split."""

from __future__ import annotations

import pytest

from understudy.curate import TestSplit, screen
from understudy.records import Dropped, Example

TEST = ["Can't log in at the caf\u00e9", "\U0001f44d"]


def reason(text: str) -> str | None:
    (row,) = screen(
        [Example(id="a", input=text)], TestSplit(Example(id=str(i), input=t) for i, t in enumerate(TEST)), "s"
    )
    return row.reason if isinstance(row, Dropped) else None


@pytest.mark.parametrize(
    "text",
    [
        "cant log in at the CAFE\u0301!",
        "Can’t log\u00ad in, at the caf\u00e9",
        "\u200bcan't log in at the café",
        "\U0001f44d ",
    ],
)
def test_a_test_text_in_another_dress_stays_out(text: str) -> None:
    assert reason(text) == "in_test_split"


@pytest.mark.parametrize("text", ["\U0001f44e", "can log in at the café", "?"])
def test_another_text_may_stay(text: str) -> None:
    assert reason(text) is None


def test_an_empty_input_is_no_row() -> None:
    assert reason(" \n") == "empty_input"
