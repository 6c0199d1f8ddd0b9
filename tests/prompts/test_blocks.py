"""Reading the blocks of a reply whose texts hold the names of headings themselves."""

from __future__ import annotations

import pytest

from understudy.errors import ParseError
from understudy.prompts.blocks import read_blocks

NAMES = ("plan", "paragraph", "task", "labels")


def read(text: str) -> list[str]:
    return list(read_blocks(text, NAMES).values())


@pytest.mark.parametrize(
    ("text", "plan", "labels"),
    [
        (
            "Plan:\n1. Task: NER.\n2. Paragraph: a.\n3. Labels: b.\n\nParagraph:\nA b.\n\nTask:\nQA\n\nLabels:\nyes",
            "1. Task: NER.\n2. Paragraph: a.\n3. Labels: b.",
            "yes",
        ),
        ("Plan: so\n- Task: QA fits\n\nParagraph: A b.\nTask: QA\nLabels: yes", "so\n- Task: QA fits", "yes"),
        ("Plan:\nTask: QA fits.\nParagraph: short.\n\nParagraph:\nA b.\n\nTask:\nQA\n\nLabels:\nyes",
         "Task: QA fits.\nParagraph: short.", "yes"),
        ("Plan:\nso\nParagraph:\nA b.\nTask:\nQA\nLabels:\n- Paragraph: history", "so", "- Paragraph: history"),
        ("Plan: so\nParagraph: A b.\nTask: QA\nLabels:\nTask: O\nParagraph: O", "so", "Task: O\nParagraph: O"),
        ("1. Plan: so\n- Labels: few\n2. Paragraph: A b.\n3. Task: QA\n4. Labels: yes", "so\n- Labels: few", "yes"),
        ("**Plan**\n* Task: QA\n**Paragraph**\nA b.\n**Task:** QA\n**Labels:** yes", "* Task: QA", "yes"),
        ("Plan:\nso\nParagraph:\nold\nTask:\nold\nLabels:\nold\nPlan:\nnew\nParagraph:\nA b.\nTask:\nQA\nLabels:\nyes",
         "new", "yes"),
    ],
)  # fmt: skip
def test_plan_and_labels_may_hold_the_words_of_headings(text: str, plan: str, labels: str):
    assert read(text) == [plan, "A b.", "QA", labels]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Plan: so\nTask: QA\nParagraph: A b.\nLabels: yes", "no_task"),
        ("Plan:\n\nParagraph: A b.\nTask: QA\nLabels: yes", "no_plan"),
        ("Plan: so\nParagraph: A b.\nTask:\nLabels: yes", "no_task"),
        ("Plan: 1. Task: QA", "no_paragraph"),
        ("Paragraph:\nTask:\n", "no_blocks"),
    ],
)
def test_blocks_that_are_missing_empty_or_out_of_order_are_named(text: str, reason: str):
    with pytest.raises(ParseError) as caught:
        read(text)
    assert caught.value.reason == reason


@pytest.mark.slow
def test_many_headings_are_read_in_linear_time():
    text = "Plan:\nso\n" + "Paragraph:\nTask: a\n" * 50_000 + "Paragraph:\nA b.\nTask:\nQA\nLabels:\nyes"
    assert read(text)[1:] == ["A b.", "QA", "yes"]
    with pytest.raises(ParseError):
        read("Labels: a\nTask: b\nParagraph: c\n" * 50_000)
