"""The text of a row, to the letter."""

from __future__ import annotations

import pytest

from understudy.errors import DataError
from understudy.records import Example
from understudy.students.serial import answer_of, answer_parts, explanations_of, preface_of, prompt_of, text_of
from understudy.task import Fields, Task

CHOICE = Task(instruction="Choose.", kind="choice", fields=Fields(choices="options"))
LABELS = Task(instruction="Sort.", kind="classification", labels=["card", "money"])
FREE = Task(instruction="Write.", kind="generation")

SKY = Example(id="sky", input="What colour is the sky?", choices=("green", "blue"), target="blue")
WHY = {"explanations": "Air scatters blue light.\n\nSo the sky is blue.", "fundamentals": "Air scatters blue light."}


def test_a_choice_row() -> None:
    assert prompt_of(SKY) == "Q: What colour is the sky? (A) green (B) blue\nA:"
    assert answer_of(SKY, CHOICE) == " The answer is (B)."
    assert answer_parts(SKY, CHOICE, "letter") == (" The answer is (", "B", ").")
    assert answer_parts(SKY, CHOICE, "text") == (" The answer is", " blue", ".")
    assert explanations_of(SKY) == ""
    assert (
        "".join(text_of(SKY, CHOICE, "letter"))
        == "Q: What colour is the sky? (A) green (B) blue\nA: The answer is (B)."
    )


def test_a_subject_comes_before_the_question() -> None:
    row = SKY.replace(notes={"subject": "optics"})
    assert prompt_of(row) == (
        "The following are multiple choice questions (with answers) about optics.\n\n"
        "Q: What colour is the sky? (A) green (B) blue\nA:"
    )


def test_explanations_come_after_the_answer() -> None:
    explained = SKY.replace(notes=WHY)
    assert explanations_of(explained) == WHY["explanations"]
    assert "".join(text_of(explained, CHOICE, "letter")) == (
        "Q: What colour is the sky? (A) green (B) blue\nA: The answer is (B).\n"
        "Air scatters blue light.\n\nSo the sky is blue."
    )
    assert prompt_of(explained) == prompt_of(SKY)


@pytest.mark.parametrize(
    ("task", "target", "answer"),
    [
        (LABELS, "card", " The answer is card."),
        (LABELS.model_copy(update={"kind": "multilabel"}), ("card", "money"), " The answer is card, money."),
        (FREE, "Blue, mostly", " Blue, mostly"),
        (FREE, ("the first reference", "the second"), " the first reference"),
        (FREE.model_copy(update={"kind": "numeric"}), "42", " 42"),
    ],
)
def test_other_kinds(task: Task, target: str | tuple[str, ...], answer: str) -> None:
    row = Example(id="x", input="a b", target=target)
    assert prompt_of(row) == prompt_of("a b") == "Q: a b\nA:"
    assert answer_of(row, task) == answer


def test_rows_that_cannot_be_learnt_from() -> None:
    with pytest.raises(DataError, match="'sky': 'red' is none of its choices"):
        answer_of(SKY.replace(target="red"), CHOICE)
    with pytest.raises(DataError, match="'sky': a row without a target"):
        answer_of(SKY.replace(target=None), CHOICE)
    with pytest.raises(DataError, match="27 choices, but only 26 letters"):
        prompt_of(SKY.replace(choices=tuple(map(str, range(27)))))


def test_a_prompt_with_the_instruction_and_examples() -> None:
    preface = preface_of(CHOICE, [SKY], "letter")
    asked = Example(id="sea", input="And the sea?", choices=("green", "blue"), notes={"subject": "optics"})
    assert prompt_of(asked, preface) == (
        "### Instruction:\nChoose.\n\n"
        "### Examples:\nInput: What colour is the sky? (A) green (B) blue\nResponse: The answer is (B).\n\n"
        "### Input:\nThe following are multiple choice questions (with answers) about optics.\n\n"
        "And the sea? (A) green (B) blue\n\n### Response:"
    )
    assert prompt_of("a b", preface_of(FREE, [], "letter")) == (
        "### Instruction:\nWrite.\n\n### Input:\na b\n\n### Response:"
    )
    assert text_of(SKY, CHOICE, "letter", preface) == (prompt_of(SKY, preface), " The answer is (", "B", ").")
