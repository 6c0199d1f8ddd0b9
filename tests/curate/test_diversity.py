"""How diverse rows are, counted by hand, by a plain reference, and beyond what is counted one by one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.curate import diversity
from understudy.records import Example, Origin


def rows(*inputs: str, dataset: str | None = None) -> list[Example]:
    origin = Origin(dataset, "train", 0) if dataset else None
    return [Example(id=f"{dataset}{i}", input=text, origin=origin) for i, text in enumerate(inputs)]


def by_letters(texts: Sequence[str]) -> np.ndarray[Any, Any]:
    """An encoder: which of a, b, c a text holds."""
    held = np.array([[letter in text for letter in "abc"] for text in texts], dtype=np.float32)
    return held / np.linalg.norm(held, axis=1, keepdims=True)


def test_figures_of_a_few_rows_by_hand():
    found = diversity([*rows("The cat sat.", "the CAT sat", "a cat"), *rows("a dog sat", dataset="pets/train")])
    assert found == {
        "unique": 0.75,  # case and punctuation make no other input
        "distinct_1": round(5 / 11, 6),  # the cat sat a dog
        "distinct_2": round(5 / 7, 6),  # the-cat cat-sat a-cat a-dog dog-sat
        "nearest": None,
        "datasets": {"(none)": 0.75, "pets/train": 0.25},
    }


def test_the_nearest_is_another_row_never_the_row_itself():
    assert diversity(rows("a", "b", "c"), by_letters)["nearest"] == 0
    assert diversity(rows("a", "b", "a"), by_letters)["nearest"] == pytest.approx(2 / 3, abs=1e-4)
    assert diversity(rows("a", "ab"), by_letters)["nearest"] == pytest.approx(0.5**0.5, abs=1e-4)


def test_where_there_is_nothing_to_count_there_is_no_figure():
    nothing = {"unique": None, "distinct_1": None, "distinct_2": None, "nearest": None, "datasets": {}}
    assert diversity([], by_letters) == nothing
    assert diversity(rows("a"), by_letters) == nothing | {"unique": 1, "distinct_1": 1, "datasets": {"(none)": 1}}


def test_of_many_rows_the_same_thousand_are_looked_at_whatever_their_order():
    asked: list[list[str]] = []

    def encode(texts: Sequence[str]) -> np.ndarray[Any, Any]:
        asked.append(list(texts))
        return np.eye(len(texts), dtype=np.float32)

    many = rows(*(f"row {i}" for i in range(5_000)))
    assert diversity(many, encode) == diversity(many[::-1], encode)
    assert len(asked[0]) == len(set(asked[0])) == 1_000
    assert asked[0] == asked[1]
    assert 1_500 < np.mean([int(text.split()[1]) for text in asked[0]]) < 3_500


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1))
def test_every_share_is_that_of_a_plain_count(texts: list[list[str]]):
    found = diversity(rows(*map(" ".join, texts)))
    pairs = [pair for words in texts for pair in pairwise(words)]
    words = [word for one in texts for word in one]
    assert found["unique"] == round(len(set(map(tuple, texts))) / len(texts), 6)
    assert found["distinct_1"] == round(len(set(words)) / len(words), 6)
    assert found["distinct_2"] == (round(len(set(pairs)) / len(pairs), 6) if pairs else None)


@pytest.mark.slow
def test_beyond_what_is_held_a_count_is_near_the_truth():
    many = 270_000
    found = diversity(Example(id=str(i), input=f"row {i}") for i in range(many))
    assert found["unique"] != 1
    assert found["unique"] == pytest.approx(1, rel=0.01)
    assert found["distinct_1"] == pytest.approx(0.5, rel=0.01)


def test_tasks_that_rows_name_are_counted_whatever_their_case():
    named = [Example(id=str(i), input=str(i), notes={"task": task}) for i, task in enumerate(("NER", "ner!", "Cloze"))]
    assert diversity([*named, *rows("a")])["tasks"] == {"rows": 3, "names": 2, "most": {"ner": 2, "cloze": 1}}
    assert "tasks" not in diversity(rows("a"))
