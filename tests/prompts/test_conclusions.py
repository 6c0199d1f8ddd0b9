"""Whether a rationale ends in its row's answer."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from understudy.errors import ParseError
from understudy.prompts.conclusions import conclusion, ends_in, option_in

PLACES = ["bank", "train", "train station", "the moon", "bank"]
DATA = Path(os.environ.get("UNDERSTUDY_DATA", "/nowhere")) / "teacher_cqa_palm540b" / "train.jsonl.gz"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A station has rails. So the answer is train station.", "train station"),
        ("So the answer is (c) train station.", "train station"),
        ("The answer is (C).", "train station"),
        ("Answer: C", "train station"),
        ("**Answer: (c)**", "train station"),
        ("The answer is C, because of the rails.", "train station"),
        ("The answer is c) the Train Station!", "train station"),
        ("So the answer is a bank.", "bank"),  # an article, no letter
        ("The answer is (E).", "bank"),  # which stands there twice
        ("So the answer is The Moon. I hope that this helps.", "the moon"),
        ("So the answer is moon.", "the moon"),
        ("A bank is out. Only a train station has rails", "train station"),  # the last sentence
        ("One may think that the answer is bank.\nThe answer is: train", "train"),
    ],
)
def test_a_choice_by_its_words_or_its_letter(text: str, answer: str):
    assert ends_in(text, answer, PLACES, lettered=True)
    for other in set(PLACES) - {answer}:
        assert not ends_in(text, other, PLACES, lettered=True)


@pytest.mark.parametrize(
    "text",
    [
        "So the answer is (c) bank.",  # letter and words differ
        "So the answer is (a) bank or (c) train station.",
        "So the answer is (z).",
        "It is either the bank or the train station.",
        "So the answer is somewhere else.",
        "",
    ],
)
def test_what_names_no_choice_or_two_agrees_with_none(text: str):
    assert not any(ends_in(text, place, PLACES, lettered=True) for place in PLACES)


def test_labels():
    labels = ["spam", "not_spam"]
    assert ends_in("It sells something. So the answer is spam.", "spam", labels)
    assert ends_in("A friend wrote it, so it is not spam.", "not_spam", labels)
    assert not ends_in("A friend wrote it, so it is not spam.", "spam", labels)
    assert not ends_in("The answer is (B).", "not_spam", labels)  # labels have no letters
    feelings = ["joy", "fear", "anger"]
    assert ends_in("So the answer is fear and joy.", ("joy", "fear"), feelings)
    assert not ends_in("So the answer is fear and joy.", ("fear",), feelings)
    assert ends_in("So the answer is neutral.", (), feelings)


def test_free_text():
    assert ends_in("He was born there. So the answer is the Eiffel Tower, in Paris.", "Eiffel tower")
    assert ends_in("It must be “the Eiffel Tower”.", ("Paris", "Eiffel Tower"))
    assert not ends_in("The Eiffel Tower is in Paris.", "Eiffel Tower")
    assert not ends_in("It is an art gallery.", "try")


def test_a_conclusion_is_the_last_answer_that_is_said_or_the_last_sentence():
    assert conclusion("The answer is 3. No: the answer is 4.5 km. Good.") == "4.5 km."
    assert conclusion("One.\nTwo? Three") == "Three"


@pytest.mark.skipif(not DATA.exists(), reason="UNDERSTUDY_DATA has no teacher_cqa_palm540b")
def test_a_quarter_of_palms_rationales_argue_for_another_answer():
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    ours = [
        ends_in(row["llm_output"].partition("\n\nQ:")[0], row["answer"], row["choices"], lettered=True) for row in rows
    ]
    theirs = [row["llm_label"] == row["answer"] for row in rows]
    assert 0.73 < sum(ours) / len(rows) < 0.76
    assert sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(rows) > 0.985


@pytest.mark.parametrize(
    "reply", ["B", "(b)", "B.", "bridge", " The Bridge.", "(B) bridge", "The answer is (B).", "B) bridge"]
)
def test_an_option_is_read_by_letter_or_words(reply: str):
    assert option_in(reply, ["bank", "bridge", "blue bridge"]) == "bridge"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [("D", "not_a_choice"), ("sea", "not_a_choice"), ("", "not_a_choice"), ("(A) bridge", "ambiguous_choice")],
)
def test_a_reply_that_names_no_one_option_is_refused(reply: str, reason: str):
    with pytest.raises(ParseError) as error:
        option_in(reply, ["bank", "bridge", "blue bridge"])
    assert error.value.reason == reason
