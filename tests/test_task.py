"""How a row's answer is read, and what is no answer."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.errors import DataError, SettingsError
from understudy.records import Target
from understudy.settings import validate
from understudy.task import Fields, Pairs, Task

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


PLACES = ["bank", "bridge", "2"]
SHAPES = [
    PLACES,
    ["bank", "bridge", 2.0],
    [{"label": "A", "text": "bank"}, {"label": "B", "text": "bridge"}, {"label": "C", "text": "2"}],
    [{"text": place} for place in PLACES],
    {"label": ["A", "B", "C"], "text": PLACES},
    {"text": PLACES},
    {"A": "bank", "B": "bridge", "C": "2"},
    "bank\nbridge\n\n2\n",
    '["bank", "bridge", "2"]',
    '{"label": ["A", "B", "C"], "text": ["bank", "bridge", "2"]}',
]


@pytest.mark.parametrize("options", SHAPES)
@pytest.mark.parametrize("answer", ["bridge", " bridge ", "B"])
def test_options_in_every_form_and_the_answer_by_text_or_letter(options: Any, answer: str) -> None:
    row = {"text": "Where?", "options": options, "label": answer}
    example = task("choice", choices="options").example(row, id="a")
    assert (example.choices, example.target) == (("bank", "bridge", "2"), "bridge")
    assert task("choice", choices="options", target=None).example(row, id="a").target is None


def test_options_from_a_template() -> None:
    row = {"text": "Where?", "q": {"options": [{"text": "[b] bank"}]}, "a": "[a] sea", "b": "bridge", "label": "b"}
    for template, options in (
        ("{{ a }}\n{{ b }}", ("[a] sea", "bridge")),
        ("{{ [a, b] | tojson }}", ("[a] sea", "bridge")),
        ("{{ q.options | map(attribute='text') | list | tojson }}", ("[b] bank",)),
    ):
        assert task("choice", choices=template).example(row, id="a").choices == options
    with pytest.raises(DataError, match="field 'choices': a list of options is expected, got 7"):
        task("choice", choices="options").example({"text": "a", "label": "x", "options": 7}, id="a")
    unpaired = {"text": ["x", "y"], "label": ["A"]}
    with pytest.raises(DataError, match="field 'choices': 2 texts and other labels: .'A'.; there must be one each"):
        task("choice", choices="options").example({"text": "a", "label": "x", "options": unpaired}, id="a")


@pytest.mark.parametrize(
    ("options", "answer", "named"),
    [
        (["8", "2", "24", "120"], 2, "24"),  # a number is no text
        ([8, 2, 24, 120], 120, "120"),  # unless the options are numbers
        (["yes", "no"], 1.0, "no"),
        (["yes", "no"], "1", "no"),
        (["bridge", "bank", "bridge"], "C", "bridge"),
        ({"label": ["1", "2"], "text": ["yes", "no"]}, "1", "yes"),  # the data's own labels
        ({"label": ["1", "2"], "text": ["yes", "no"]}, 2, "no"),
    ],
)
def test_an_answer_by_its_number(options: Any, answer: Any, named: str) -> None:
    assert (
        task("choice", choices="options").example({"text": "", "options": options, "label": answer}, id="a").target
        == named
    )


@pytest.mark.parametrize(
    ("target_is", "named"), [("text", "2"), ("index", "24"), ("letter", "2 (no option's number)"), (None, None)]
)
def test_an_answer_that_could_be_two_options_asks_what_it_is(target_is: Any, named: str | None) -> None:
    row = {"text": "", "options": ["8", "2", "24"], "label": "2"}
    choice = task("choice", choices="options", target_is=target_is)
    if named:
        assert choice.example(row, id="a").target == named
    else:
        with pytest.raises(
            DataError, match="'2' can be read by text '2', by index '24'; say which with fields.target_is"
        ):
            choice.example(row, id="a")


@pytest.mark.parametrize("answer", ["sea", "D", 3, "3"])
def test_an_answer_that_is_none_of_the_options_stays_and_is_none(answer: Any) -> None:
    example = task("choice", choices="options").example({"text": "", "options": PLACES, "label": answer}, id="a")
    assert example.target == str(answer)
    beyond = task("choice", choices="options").example({"text": "", "options": ["9", "7"], "label": 7}, id="a")
    assert beyond.target not in beyond.choices


def test_settings_of_choices_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match="fields.target: kind: choice takes one answer"):
        task("choice", choices="options", target=["a", "b"])
    with pytest.raises(SettingsError, match="fields.target_is belongs to kind: choice"):
        task(target_is="letter")
    with pytest.raises(DataError, match="kind: choice takes one answer, got the list"):
        target("choice", ["bank"], choices="options")


def pretraining(**values: Any) -> Task:
    return validate(Task, {"kind": "pretraining", **values}, "task")


def test_pretraining_needs_its_kind_alone() -> None:
    plain = pretraining()
    assert plain.instruction
    assert plain.metric_names == ("accuracy",)
    assert plain.example({"text": "Some text.", "target": "x"}, id="a").target is None
    assert plain.pairs == Pairs(groups=("field", "linguistics_term", "UID"), known_words=None)
    again = pretraining(**plain.model_dump(exclude_unset=True, exclude={"kind"}))
    assert again == plain


def test_what_is_given_for_pretraining_wins() -> None:
    own = pretraining(instruction="Read.", fields={"input": "story"}, pairs={"bad": "off", "known_words": 2})
    assert (own.instruction, own.fields.input, own.fields.target) == ("Read.", "story", None)
    assert own.pairs == Pairs(good="sentence_good", bad="off", known_words=2)
    assert pretraining(fields=Fields(target="label")).fields == Fields(input="text", target="label")


def test_a_minimal_pair_is_a_choice_of_two() -> None:
    row = {"sentence_good": "Dogs bark.", "sentence_bad": "Dogs barks.", "UID": "agreement", "n": 3}
    found = pretraining().pair(row, id="a")
    assert (found.input, found.target, found.choices) == ("Dogs bark.", "Dogs bark.", ("Dogs bark.", "Dogs barks."))
    assert found.fields == row
    with pytest.raises(DataError, match="field 'pairs.good': None is no sentence"):
        pretraining().pair(row | {"sentence_good": None}, id="a")


def test_settings_of_pretraining_that_cannot_be() -> None:
    with pytest.raises(SettingsError, match="task.pairs.god: unknown key. Did you mean 'good'"):
        pretraining(pairs={"god": "x"})
    with pytest.raises(SettingsError, match="task.fields: .*got 'text'"):
        pretraining(fields="text")
    with pytest.raises(SettingsError, match="pairs belongs to kind: pretraining; take it out"):
        validate(Task, {"instruction": "Say.", "kind": "generation", "pairs": {}}, "task")
    with pytest.raises(SettingsError, match="task.instruction: this key is required"):
        validate(Task, {"kind": "generation"}, "task")
