"""Forms: the schema that is sent, the words for endpoints without schemas, and reading whatever comes back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from understudy.errors import ParseError, SettingsError
from understudy.prompts.replies import read_json_list
from understudy.teachers.request import Request
from understudy.teachers.structured import (
    PROBE_MESSAGES,
    PROBE_SCHEMA,
    form_of,
    in_blocks,
    obeys,
    read_form,
    repair,
    response_format,
)


class Card(BaseModel):
    """A question with its answer."""

    question: str = Field(description="a question that a child could ask", min_length=3)
    final_answer: str
    label: Literal["rent", "moving_out"] = "rent"
    count: int = 1


class Person(BaseModel):
    name: str = Field(description="the full name")
    age: int | None


class Town(BaseModel):
    mayor: Person
    streets: list[str]
    others: list[Person] = []


class Cards(BaseModel):
    cards: list[Card]


class Names(BaseModel):
    names: list[str]


class Tree(BaseModel):
    word: str
    children: list[Tree] = []


WHY = {"question": "Why?", "final_answer": "So."}
CARD = Card(question="Why?", final_answer="So.")

READ = {
    "plain": '{"question": "Why?", "final_answer": "So."}',
    "fence": '```json\n{"question": "Why?", "final_answer": "So."}\n```',
    "fence without an end": '```json\n{"question": "Why?", "final_answer": "So."}',
    "prose around": 'Sure! [As you asked]\n{"question": "Why?", "final_answer": "So."}\nI hope {this} helps :-}',
    "braces before": 'For x in {1, 2} and \\frac{1}{2}:\n{"question": "Why?", "final_answer": "So."}',
    "trailing comma": '{"question": "Why?", "final_answer": "So.",}',
    "missing comma": '{"question": "Why?" "final_answer": "So."}',
    "missing comma at a line's end": '{\n"question": "Why?"\n"final_answer": "So."\n}',
    "single quotes": "{'question': 'Why?', 'final_answer': 'So.'}",
    "curly quotes": "{“question”: “Why?”, “final_answer”: “So.”}",
    "Python": "{'question': 'Why?', 'final_answer': 'So.', 'count': True, 'label': None}",
    "keys without quotes": '{question: "Why?", final_answer: "So."}',
    "line comment": '{"question": "Why?", // it\'s {short}\n"final_answer": "So."}',
    "block comment": '{"question": "Why?", /* "no": } */ "final_answer": "So."}',
    "hash comment": '{"question": "Why?", # see [1]\n"final_answer": "So."}',
    "thinking": '<think>Or {"question": "No?", "final_answer": "No."}</think>{"question":"Why?","final_answer":"So."}',
    "thinking that began in the prompt": 'Hm, {maybe}.\n</think>\n{"question": "Why?", "final_answer": "So."}',
    "the last one counts": '{"question": "Who?", "final_answer": "I."} Or\n{"question":"Why?","final_answer":"So."}',
    "other JSON beside it": '{"question": "Why?", "final_answer": "So."} as in {"example": [1]}',
    "in a list": '[{"question": "Why?", "final_answer": "So."}]',
    "names in another spelling": '{"Question": "Why?", "finalAnswer": "So."}',
    "a text for a number": '{"question": "Why?", "final_answer": "So.", "count": "1"}',
    "a choice in another case": '{"question": "Why?", "final_answer": "So.", "label": "Rent"}',
    "null for what has a default": '{"question": "Why?", "final_answer": "So.", "label": null, "count": null}',
    "more than was asked for": '{"question": "Why?", "final_answer": "So.", "mood": {"a": [1, {}]}}',
    "tags": "<question>Why?</question>\n<final_answer>So.</final_answer>",
    "tags in another case": "Here:\n<Question> Why? </Question> <Final Answer>So.</Final Answer> Done.",
    "tags left empty": "<question>Why?</question><final_answer>So.</final_answer><label></label><count/>",
    "a tag not closed": "<question>Why?\n<final_answer>So.</final_answer>",
    "JSON in a tag": '<final_answer>{"question": "Why?", "final_answer": "So."}</final_answer>',
    "headings with colons": "Question: Why?\nFinal answer: So.",
    "bold headings": "**Question:** Why?\n\n**Final answer**: So.",
    "Markdown headings": "## Question\nWhy?\n\n## Final Answer\nSo.\n",
    "numbered headings": "1. Question: Why?\n2. Final_Answer: So.\n3. Label: RENT",
}


@pytest.mark.parametrize("kind", READ)
def test_a_reply_is_read_whatever_is_wrong_with_it(kind: str):
    assert read_form(READ[kind], Card) == CARD


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ('{"question": "He said "why" and left", "final_answer": "So."}', 'He said "why" and left'),
        ('{"question": "A 5" nail?", "final_answer": "So."}', 'A 5" nail?'),
        ("{'question': 'It's what?', 'final_answer': 'So.'}", "It's what?"),
        ("{'question': 'It\\'s \"what\"?', 'final_answer': 'So.'}", 'It\'s "what"?'),
        ('{"question": "Two\nlines\t?", "final_answer": "So."}', "Two\nlines\t?"),
        ('{"question": "Two\nlines\t?", "final_answer": "So.",}', "Two\nlines\t?"),
        ('{"question": "a \\( b \\) \\sqrt?", "final_answer": "So."}', "a \\( b \\) \\sqrt?"),
        ('{"question": "Is </think> a {tag}, // or [not?", "final_answer": "So."}', "Is </think> a {tag}, // or [not?"),
        ('{"question": "<question>Why?</question>", "final_answer": "So."}', "<question>Why?</question>"),
        ("<question>Is <b> or {x: 1} right?</question><final_answer>So.</final_answer>", "Is <b> or {x: 1} right?"),
        ("Question: Two\nlines: and {more}?\nFinal answer: So.", "Two\nlines: and {more}?"),
        ('{"question": 1984, "final_answer": "So."}', "1984"),
    ],
)
def test_a_text_stays_as_it_was_written(text: str, question: str):
    assert read_form(text, Card) == CARD.model_copy(update={"question": question})


@pytest.mark.parametrize(
    "text",
    [
        '["Ann", "Bo"]',
        "[As asked] these are the names:\n['Ann', 'Bo',]",
        '{"names": ["Ann", "Bo"}',
        '{"names": ["Ann" "Bo"]}',
        "<names>Ann</names>\n<names>Bo</names>",
        "<names>\n- Ann\n- Bo\n</names>",
        '<names>["Ann", "Bo"]</names>',
        "Names:\n1. Ann\n2. Bo",
        "## Names\n* Ann\n* Bo",
    ],
)
def test_a_list_is_read_from_every_way_of_writing_it(text: str):
    assert read_form(text, Names).names == ["Ann", "Bo"]


def test_a_bare_list_of_objects_and_objects_without_a_list_are_the_one_list_field():
    assert read_form(json.dumps([WHY, WHY]), Cards).cards == [CARD, CARD]
    assert read_form(f"{json.dumps(WHY)}\n{json.dumps(WHY)}", Cards).cards == [CARD, CARD]


def test_what_is_nested_is_read_from_json_and_from_tags():
    town = Town(mayor=Person(name="Ann", age=50), streets=["A, B", "C"], others=[Person(name="Bo", age=None)])
    assert read_form(town.model_dump_json(), Town) == town
    tags = """
        <mayor>{"name": "Ann", "age": "50"}</mayor>
        <streets>A, B</streets><streets>C</streets>
        <others>{'name': 'Bo', 'age': null}</others>"""
    assert read_form(tags, Town) == town
    with pytest.raises(ParseError, match="not_the_form: mayor: "):
        read_form('<mayor>{"name": "Ann"</mayor><streets>A</streets>', Town)


class Colour(StrEnum):
    RED = "red"
    BLUE = "dark blue"


class Choices(BaseModel):
    colours: list[Colour]
    size: Literal[1, 2]
    sure: bool


@pytest.mark.parametrize(
    "text",
    [
        '{"colours": ["RED", "Dark-Blue"], "size": "2", "sure": "yes"}',
        "<colours>Red</colours><colours>dark_blue</colours><size>2</size><sure>true</sure>",
        "Colours: red, dark blue\nSize: 2\nSure: Yes",
    ],
)
def test_choices_are_read_whatever_their_case(text: str):
    assert read_form(text, Choices) == Choices(colours=[Colour.RED, Colour.BLUE], size=2, sure=True)


REFUSED = {
    "": "not_json",
    "I cannot help with that.": "not_json",
    "For all x in {1, 2} see [3].": "not_json",
    '{"question": "Why?", "final_answer": }': "not_json: a value is missing",
    '{"question": "Why?", ...}': "not_json: something is left out",
    '{"question": "\\ud83d", "final_answer": "So."}': "not_json: half a character",
    '{"question": "\ud83d", "final_answer": "So."}': "not_json: broken characters",
    '{"question": "Why?", "count": (1), "final_answer": "So."}': "not_json: a stray '\\('",
    "{}": "not_the_form: none of the fields question, final_answer, label, count",
    '{"question": "Why?", "final_answer": "So.", {"count": 2}}': "not_json: a name is missing",
    '{"question": "Why?", "final_answer" "So."}': "not_json",
    '{"mood": "good"}': "not_the_form: none of the fields",
    '{"question": "Why?"}': "not_the_form: final_answer: this field is missing",
    '{"question": "Why?", "final_answer": null}': r"not_the_form: final_answer: .*string \(got None\)",
    '{"question": "Why?", "final_answer": ["So."]}': r"not_the_form: final_answer: .*string \(got \['So.'\]\)",
    '{"question": "?", "final_answer": "So."}': r"not_the_form: question: .*at least 3 characters \(got '\?'\)",
    '{"question": "Why?", "final_answer": "So.", "count": "few"}': r"not_the_form: count: .*integer.*\(got 'few'\)",
    '{"question": "Why?", "final_answer": "So.", "label": "pets"}': r"not_the_form: label: .*'rent' or 'moving_out'",
    "<question>...</question><final_answer>...</final_answer>": "not_the_form: question: this field is missing",
    "<question>Why?</question>": "not_the_form: final_answer: this field is missing",
    "<question></question><final_answer>So.</final_answer>": "not_the_form: question: this field is missing",
    "<question>Why?<final_answer>So.</final_answer></question>": "not_the_form: final_answer: this field is missing",
    "Question: Why?": "not_the_form: final_answer: this field is missing",
    '{"question": "Why?", "final_answer": "So': "cut_off",
    '{"question": "Why?", "final_answer": "So."': "cut_off",
    '```json\n{"question": "Why?", "final_answer": "So\n```': "cut_off",
    '{"question": "Why?", "final_answer": "So."}\n{"question": "Who?", "final_ans': "cut_off",
    "{'question': 'Why?', 'final_answer': 'It's so": "cut_off",
    "<question>Why?</question><final_answer>So": "cut_off",
    "<think>I could say": "cut_off",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_there_is_never_made_up(text: str):
    with pytest.raises(ParseError) as caught:
        read_form(text, Card)
    assert caught.match(f"^{REFUSED[text]}")
    str(caught.value).encode()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
people = st.builds(Person, name=texts, age=st.none() | st.integers(-(10**9), 10**9))
towns = st.builds(Town, mayor=people, streets=st.lists(texts, max_size=3), others=st.lists(people, max_size=2))
befores = st.sampled_from(["", "Sure!\n", "<think>{[hm</think>\n", "```json\n", "See [1], {2}: ", 'It\'s "this":\n\n'])
afters = st.sampled_from(["", "\n```", "\n```\nI hope it's right :-]", " }", "\n\nNote: done."])


@given(towns, befores, afters, st.sampled_from([None, 2]), st.booleans())
def test_what_is_written_as_json_reads_back_equal(town: Town, before: str, after: str, indent: Any, ascii: bool):
    written = json.dumps(town.model_dump(), indent=indent, ensure_ascii=ascii)
    assert read_form(before + written + after, Town) == town


@given(towns, st.data())
def test_json_that_breaks_off_anywhere_is_no_value(town: Town, data: Any):
    written = json.dumps(town.model_dump(), ensure_ascii=data.draw(st.booleans()))
    cut = data.draw(st.integers(1, len(written) - 1))
    with pytest.raises(ParseError) as caught:
        read_form(written[:cut] + data.draw(st.sampled_from(["", "\n```", " "])), Town)
    assert caught.value.reason in ("cut_off", "not_json")


@given(st.text(max_size=60) | st.text("{}[]\"':,\\<>/abquestion \n#.1", max_size=60))
def test_whatever_comes_is_read_or_refused(text: str):
    for model in (Card, Cards, Names, Town, Tree):
        reason = reason_of(text, model)
        assert reason in ("read", "not_json", "not_the_form", "cut_off")


def reason_of(text: str, model: type[BaseModel]) -> str:
    try:
        read_form(text, model)
    except ParseError as error:
        str(error).encode()
        return error.reason
    return "read"


HOSTILE = [
    '{"',
    "{",
    "[",
    '["',
    '"',
    "{'a':",
    '{"a":1,}',
    '{"a" 1}',
    '{"names": x}',
    "[1,",
    '[{"',
    "/*",
    "{#",
    "\\",
    "<names>",
]
HOSTILE += [
    "<names",
    "</names>",
    "names:",
    "names: a\n",
    "#",
    "*",
    " ",
    "\n",
    "</think>",
    "{(",
    '"a": ',
    "<names>{",
    "- a\n",
    "'",
    '", "',
]


@pytest.mark.slow
@pytest.mark.parametrize("within", ["%s", '{"names": "%s', '{"names": ["%s"]}', '{"names": [%s]}', "<names>%s</names>"])
def test_a_hostile_reply_is_read_in_linear_time(within: str):
    for part in HOSTILE:  # what takes time that grows with the square takes minutes here
        text = within.replace("%s", part * (100_000 // len(part)))
        for model in (Names, Tree):
            reason_of(text, model)


@pytest.mark.slow
@pytest.mark.parametrize("part", ['{"a":1,}', '{"a" 1}', '{"names":["', "<names>", "names: a\n", '"'])
def test_a_hostile_megabyte_does_not_hang(part: str):
    reason_of(part * (1_000_000 // len(part)), Names)


@pytest.mark.slow
def test_a_megabyte_that_is_right_is_read_and_one_that_is_nested_is_refused():
    names = Names(names=["x" * 99] * 10_000)
    assert read_form(names.model_dump_json(), Names) == names
    assert read_form(names.model_dump_json()[:-1] + ",}", Names) == names
    for text in (
        "[" * 10**6 + "]" * 10**6,
        '{"names":' * 100_000 + "}" * 100_000,
        '{"word": "", "children": [' * 400 + "]}" * 400,
    ):
        for model in (Names, Tree):
            with pytest.raises(ParseError):
                read_form(text, model)


def parts_of(schema: Any) -> Iterator[dict[str, Any]]:
    yield schema
    for inner in [
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", []),
        *schema.get("$defs", {}).values(),
        *([schema["items"]] if "items" in schema else []),
    ]:
        yield from parts_of(inner)


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float = Field(gt=0)


class Square(BaseModel):
    kind: Literal["square"]
    side: float


class Everything(BaseModel):
    """All that a form can hold."""

    title: str = Field(title="A title", pattern="^[A-Z]")
    default: int = Field(default=3, ge=1, le=5)
    first: Person
    second: Person = Field(description="another one")
    shape: Circle | Square = Field(discriminator="kind")
    pair: tuple[int, str]
    colours: set[Colour] = set()
    maybe: Literal["a", "b"] | None = None
    tree: Tree | None = None


@pytest.mark.parametrize("model", [Card, Town, Cards, Names, Choices, Tree, Everything])
def test_a_schema_is_strict_all_the_way_down(model: type[BaseModel]):
    schema = form_of(model).schema
    assert schema["type"] == "object"
    for part in parts_of(schema):
        assert part.keys() <= {
            *("type", "properties", "required", "additionalProperties", "items"),
            *("enum", "anyOf", "description", "$ref", "$defs"),
        }
        if "$ref" in part:
            assert part.keys() == {"$ref"}
            assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if part.get("type") == "object":
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])
    assert "$defs" not in schema or "Tree" in schema["$defs"]


def test_the_schema_says_what_the_model_says():
    properties = form_of(Everything).schema["properties"]
    assert properties["title"] == {"type": "string", "description": "(must match ^[A-Z])"}
    assert properties["default"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "description": "(at least 1, at most 5)",
    }
    assert properties["second"]["description"] == "another one"
    assert properties["second"]["properties"] == properties["first"]["properties"]
    assert properties["maybe"]["anyOf"] == [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}]
    assert [choice["properties"]["kind"] for choice in properties["shape"]["anyOf"]] == [
        {"type": "string", "enum": ["circle"]},
        {"type": "string", "enum": ["square"]},
    ]
    assert properties["pair"]["items"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}


def test_a_schema_is_the_same_each_time_and_so_is_its_key():
    first = form_of(Everything).schema
    form_of.cache_clear()
    second = form_of(Everything).schema
    assert json.dumps(first) == json.dumps(second)
    keys = {Request("t", "m", [], schema=schema).key for schema in (first, second)}
    assert len(keys) == 1
    assert form_of(Card) is form_of(Card)


class Nothing(BaseModel):
    pass


class Free(BaseModel):
    words: dict[str, int]


class Anything(BaseModel):
    part: list[Any]


@pytest.mark.parametrize(("model", "words"), [(Nothing, "no fields"), (Free, "Free.words"), (Anything, r"part.\[\]")])
def test_what_no_strict_schema_can_say_is_refused(model: type[BaseModel], words: str):
    with pytest.raises(SettingsError, match=words):
        form_of(model)


def test_the_parameter_that_is_sent():
    schema = form_of(Card).schema
    sent = response_format(schema)
    assert sent["type"] == "json_schema"
    assert sent["json_schema"] == {"name": "reply", "strict": True, "schema": schema}


def test_the_form_in_words_stands_at_the_end_of_the_last_user_message():
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Write a card."},
        {"role": "assistant", "content": "Which?"},
        {"role": "user", "content": "Any."},
    ]
    asked = in_blocks(messages, form_of(Card).schema)
    assert asked[:3] == messages[:3]
    assert messages[3]["content"] == "Any."
    assert asked[3]["content"].splitlines() == [
        "Any.",
        "",
        "Write your answer in these tags, in place of the dots, and nothing else:",
        "",
        "<question>...</question>",
        "<final_answer>...</final_answer>",
        "<label>...</label>",
        "<count>...</count>",
        "",
        "What goes into the tags:",
        "question: a question that a child could ask (at least 3 characters)",
        "label: one of: rent, moving_out; empty if there is none",
        "count: a whole number; empty if there is none",
    ]


@pytest.mark.parametrize("model", [Card, Town, Cards, Names, Choices, Tree, Everything])
def test_words_that_are_sent_back_as_they_are_fit_no_form(model: type[BaseModel]):
    (asked,) = in_blocks([], form_of(model).schema)
    with pytest.raises(ParseError, match="not_the_form"):
        read_form(asked["content"], model)


def test_the_words_for_lists_and_what_is_nested():
    (asked,) = in_blocks([], form_of(Town).schema)
    assert asked["content"].count("<streets>...</streets>") == 2
    assert "streets: one in each pair of tags, with more pairs for more" in asked["content"]
    assert (
        'mayor: JSON like {"name": "the full name", "age": "a whole number; null if there is none"}' in asked["content"]
    )


def test_a_repair_shows_what_is_wrong_and_asks_for_all_of_it():
    messages = [{"role": "user", "content": "Write a card."}]
    reply = '{"question": "Why?"}'
    with pytest.raises(ParseError) as caught:
        read_form(reply, Card)
    asked = repair(messages, reply, caught.value)
    assert asked[:2] == [*messages, {"role": "assistant", "content": reply}]
    assert asked[2]["role"] == "user"
    assert "final_answer: this field is missing" in asked[2]["content"]
    assert len(asked) == 3


def test_the_probe_tells_who_heeds_schemas():
    assert obeys('{"colour": "heliotrope"}')
    assert obeys('```json\n{"colour":"heliotrope"}\n```')
    for text in ("", "Hello there!", '{"greeting": "Hello"}', '{"colour": "', "heliotrope", "{" * 9999, "\ud83d"):
        assert not obeys(text)
    assert "heliotrope" not in str(PROBE_MESSAGES)
    assert PROBE_SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize(
    "text",
    ["['a', 'b',]", '["a" "b"]', '["a", // first\n "b"]', 'See:\n```\n["a",\n"b",\n]\n```', '{"rows": ["a", "b",]}'],
)
def test_a_json_list_is_read_through_its_faults(text: str):
    assert read_json_list(text) == ["a", "b"]


@pytest.mark.parametrize("text", ['["a"], ["b"', '["a", ...]', '["a"] ["b"]', '["a", b]'])
def test_a_json_list_is_not_made_up(text: str):
    with pytest.raises(ParseError, match="not_json"):
        read_json_list(text)
