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


LONG = "I ordered my new card over a week ago and it has still not come to my flat"
SPLIT = TestSplit([Example(id="long", input=LONG), Example(id="short", input="My card is lost"),
                   Example(id="middle", input="Why was my card declined?")])  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        LONG.upper() + "!",
        f"Somebody wrote: {LONG}. What does he want?",
        "Hello, I ordered my NEW card over a week ago, and it has still not arrived.",  # 9 of its 13 runs of five words
        "my card is lost?",
        "He asked: why was my card declined? And then he left.",
    ],
)
def test_a_text_that_holds_half_of_a_test_text_is_near_it(text: str) -> None:
    assert SPLIT.near(text)


@pytest.mark.parametrize(
    "text",
    [
        "I ordered my new card over the phone, and today it has come.",  # 2 of 13
        "My card is lost and I need another one",  # a text of four words is near only to itself
        "new card",
        "",
    ],
)
def test_a_text_that_holds_less_is_not(text: str) -> None:
    assert not SPLIT.near(text)


def test_near_copies_are_found_whether_rows_can_be_read_twice_or_not() -> None:
    texts = [f"row number {i} says that {i * i} and {i + 7} are its numbers" for i in range(1000)]
    once = TestSplit(Example(id=str(i), input=text) for i, text in enumerate(texts))
    assert all(once.near(f"{text} indeed") for text in texts[::50])
    assert not once.near("row number 1000 says that 1000000 and 1007 have other numbers")
    assert not TestSplit([]).near(LONG)
