"""How a row's answer is read, and what is no answer."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.errors import DataError, SettingsError
from understudy.records import Target
from understudy.settings import validate
from understudy.task import Task

LABELS = ["card", "login"]


def task(kind: str = "classification", **fields: Any) -> Task:
    fields = {"input": "text", "target": "label", **fields}
    labels = LABELS if kind in ("classification", "multilabel") else None
    return validate(Task, {"instruction": "Which?", "kind": kind, "labels": labels, "fields": fields}, "task")


def target(kind: str, value: Any, **fields: Any) -> Target:
    return task(kind, **fields).example({"text": "a", "label": value, "options": []}, id="a").target


@pytest.mark.parametrize("value", [["card", "login"], ["card"], []])
def test_a_list_is_no_answer_of_a_classification_task(value: list[str]) -> None:
    with pytest.raises(DataError, match="field 'target': kind: classification takes one label, got the list"):
        target("classification", value)


@pytest.mark.parametrize("kind", ["classification", "multilabel", "choice"])
@pytest.mark.parametrize("value", [None, "", " \t"])
def test_a_blank_answer_is_none_where_answers_are_given(kind: str, value: str | None) -> None:
    assert target(kind, value, choices="options") is None
    if value is not None:
        assert target(kind, value, choices="options", target="{{ label }}") is None


def test_a_blank_text_may_be_what_was_extracted() -> None:
    assert target("extraction", "") == ""
    assert target("extraction", None) is None


@pytest.mark.parametrize(
    ("value", "labels"),
    [
        ("login, card", ("card", "login")),
        ("login;card;", ("card", "login")),
        ("card\nlogin", ("card", "login")),
        (" card ", ("card",)),
        (["login", "card", "login"], ("card", "login")),
        (["login", None, ""], ("login",)),
        ([], ()),
        ([None], None),
        (",;", None),
    ],
)
def test_the_labels_of_a_multilabel_row(value: Any, labels: Target) -> None:
    assert target("multilabel", value) == labels
    if isinstance(value, str):
        assert target("multilabel", value, target="{{ label }}") == labels


def test_labels_and_references_in_several_columns() -> None:
    row = {"text": "a", "one": "login", "two": ""}
    for kind in ("multilabel", "generation"):
        several = task(kind, target=["one", "two"])
        assert several.example(row, id="a").target == ("login",)
        assert several.example(row | {"one": None}, id="a").target is None


@pytest.mark.parametrize(
    ("field", "template"), [("input", "{{ text"), ("target", "{{ label | lowr }}"), ("target", ["a", "{% if %}"])]
)
def test_a_broken_template_is_found_when_the_settings_are_read(field: str, template: Any) -> None:
    with pytest.raises(SettingsError, match=rf"^task\.fields\.{field}.*: template .*, line 1: "):
        task(**{field: template})


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{ text | dictsort }}", "AttributeError"),
        ("{{ '%(a)s' | format(b=text) }}", "KeyError"),
        ("{{ '{}{}'.format(text) }}", "IndexError"),
        ("{{ text.strp() }}", "UndefinedError"),
        ("{{ text.__class__.__mro__ }}", "SecurityError"),
        ("{{ 1 / (text | length - 1) }}", "ZeroDivisionError"),
    ],
)
def test_a_template_that_fails_on_a_row_is_the_rows_fault(template: str, kind: str) -> None:
    with pytest.raises(DataError, match=rf"^field 'input': template .* fails on this row: {kind}: "):
        task(input=template).example({"text": "a", "label": "card"}, id="a")
