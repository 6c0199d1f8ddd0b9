"""One row out of several samples, and how many rows of each label."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.curate import elected, quotas
from understudy.records import Dropped, Example, Row


def samples(*answers: Any) -> list[Row]:
    """A sample an answer; of ``None`` one that was dropped."""
    rows = [Example(id=f"r+{i}", input="x", target=answer, replies=(f"k{i}",)) for i, answer in enumerate(answers)]
    return [row if row.target else Dropped(row, "step", "not_a_label", "weather") for row in rows]


def test_the_answer_that_most_samples_give():
    row = elected(samples("card", "money", "card"), "step")
    assert isinstance(row, Example)
    assert (row.id, row.target, row.replies) == ("r+0", "card", ("k0", "k1", "k2"))
    row = elected(samples("money", "card", "card"), "step")
    assert isinstance(row, Example)
    assert (row.id, row.target) == ("r+1", "card")


def test_one_more_than_any_other_is_enough():
    row = elected(samples("a", "b", "c", "b"), "step")
    assert isinstance(row, Example)
    assert row.target == "b"


@pytest.mark.parametrize("answers", [("card", "money"), ("a", "b", "b", "a", "c"), (("a", "b"), ("a",))])
def test_between_equals_nobody_is_elected(answers: tuple[Any, ...]):
    row = elected(samples(*answers), "step")
    assert isinstance(row, Dropped)
    assert (row.step, row.reason, row.example.id) == ("step", "no_majority", "r+0")
    assert len(row.example.replies) == len(answers)
    assert "samples each say" in row.detail


def test_what_was_dropped_has_no_vote():
    row = elected(samples(None, "money", None), "step")
    assert isinstance(row, Example)
    assert (row.id, row.target, row.replies) == ("r+1", "money", ("k1",))
    row = elected(samples(None, None), "step")
    assert isinstance(row, Dropped)
    assert (row.example.id, row.reason, row.detail) == ("r+0", "not_a_label", "weather")


def test_several_labels_are_one_answer():
    row = elected(samples(("a", "b"), ("a",), ("a", "b")), "step")
    assert isinstance(row, Example)
    assert row.target == ("a", "b")


@given(total=st.integers(1, 3000), labels=st.integers(1, 200))
def test_equal_quotas(total: int, labels: int):
    counts = quotas(total, [1] * labels)
    assert sum(counts) == total
    assert max(counts) - min(counts) <= 1  # also where there are more labels than rows


@given(total=st.integers(1, 3000), shares=st.lists(st.integers(0, 500), min_size=1, max_size=100).filter(any))
def test_quotas_as_the_gold_rows_have_them(total: int, shares: list[int]):
    counts = quotas(total, shares)
    assert sum(counts) == total
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - total * share / sum(shares)) < 1
        assert share or not count


@given(shares=st.lists(st.integers(0, 500), min_size=1, max_size=100).filter(any), times=st.integers(1, 20))
def test_shares_that_go_even_are_met_exactly(shares: list[int], times: int):
    assert quotas(times * sum(shares), shares) == [times * share for share in shares]
