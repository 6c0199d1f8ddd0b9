"""The controls, each against a real endpoint: what they ask, what they make of the replies, what they drop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from servers import ChatServer

import understudy
from understudy import Dropped, Example, Given, Ledger, Task, Teacher, open_teacher
from understudy.curate import draw_shots
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Row

TASK = Task(instruction="Which?", kind="classification", labels=["red", "blue"])
CORPUS = Task(instruction="Learn.", kind="pretraining")
TRAIN = [Example(id=f"t{i}", input=f"gold {i}", target=("red", "blue")[i % 2]) for i in range(6)]
MORE = [Example(id=f"m{i}", input=f"more {i}") for i in range(3)]


@pytest.fixture
def teacher(server: ChatServer) -> Iterator[Teacher]:
    settings = {"model": "tiny", "base_url": server.base_url, "concurrency": 1}  # so that requests come in order
    with Ledger.open() as ledger, open_teacher(settings, ledger) as opened:
        yield opened


def made(name: str, given: Given, **settings: object) -> list[Row]:
    recipe = open_recipe(name)
    return list(recipe.make(TRAIN, given, recipe.settings(**settings)))


def test_gold_passes_its_rows_on_and_asks_nobody(teacher: Teacher, server: ChatServer):
    assert made("gold", Given(TASK, teacher, TRAIN, MORE)) == TRAIN
    assert server.requests == 0


def test_raw_passes_the_corpus_on_and_asks_nobody(teacher: Teacher, server: ChatServer):
    assert made("raw", Given(CORPUS, teacher, TRAIN, [])) == TRAIN
    assert server.requests == 0


def test_answers_labels_the_unlabelled_and_keeps_the_reply(teacher: Teacher, server: ChatServer):
    server.answer = lambda messages: "Blue." if "more 1" in messages[-1]["content"] else "green"
    *passed, first, second, third = made("answers", Given(TASK, teacher, TRAIN, MORE), shots=2)
    assert passed == TRAIN
    assert isinstance(second, Example)
    assert (second.id, second.target, second.parents, len(second.replies)) == ("m1+answers", "blue", ("m1",), 1)
    assert isinstance(first, Dropped)
    assert isinstance(third, Dropped)
    assert (first.reason, first.example.id, third.detail) == ("not_a_label", "m0", "'green' is none of the 2 labels")
    prompt = server.bodies[0]["messages"][0]["content"]
    assert prompt.count("Answer: ") == 2
    assert {"Answer: red", "Answer: blue"} <= set(prompt.splitlines())


def test_answers_can_reason_first(teacher: Teacher, server: ChatServer):
    server.answer = "It is the colour of the sky.\nAnswer: blue"
    rows = made("answers", Given(TASK, teacher, TRAIN, MORE[:1]), reasoning=True)
    assert isinstance(rows[-1], Example)
    assert (rows[-1].target, rows[-1].rationale) == ("blue", "It is the colour of the sky.")


def test_direct_asks_for_each_label_and_drops_what_is_no_row_or_a_copy(teacher: Teacher, server: ChatServer):
    def answer(messages: list[dict[str, str]]) -> str:
        label = "red" if 'answer is "red"' in messages[-1]["content"] else "blue"
        return json.dumps([f"a {label} thing", "Gold 0.", 7])

    server.answer = answer
    rows = made("direct", Given(TASK, teacher, TRAIN[:2], []), rows=12, batch=3, shots=2)[len(TRAIN) :]
    examples = [row for row in rows if isinstance(row, Example)]
    assert server.requests == 2  # two labels, two samples of three rows each in one request
    assert [(row.input, row.target, row.parents) for row in examples] == [
        ("a red thing", "red", ("t0",)),
        ("a blue thing", "blue", ("t1",)),
    ]
    reasons = [row.reason for row in rows if isinstance(row, Dropped)]
    assert reasons == ["copy_of_shot", "not_a_row", "copy_of_output", "copy_of_shot", "not_a_row"] * 2
    assert not any("gold 1" in body["messages"][0]["content"] for body in server.bodies if '"red"' in str(body))


def test_direct_writes_input_and_answer_where_there_are_no_labels(teacher: Teacher, server: ChatServer):
    task = Task(instruction="Turn it round.", kind="generation")
    server.answer = json.dumps([{"input": "ab", "target": "ba"}, {"input": "only"}])
    train = [Example(id="t", input="xy", target="yx")]
    recipe = open_recipe("direct")
    rows = list(
        recipe.make(train, Given(task, teacher, train, []), recipe_settings("direct", {"rows": 2, "batch": 2}, ""))
    )
    assert isinstance(rows[1], Example)
    assert (rows[1].input, rows[1].target) == ("ab", "ba")
    assert isinstance(rows[2], Dropped)
    assert '{"input":"xy","target":"yx"}' in server.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("item", "becomes"),
    [
        ({"input": "How many are left?", "target": 0}, ("How many are left?", "0")),
        ({"input": 12, "target": [5]}, ("12", "5")),
        ({"input": " Half? ", "target": [" 0.5\n"]}, ("Half?", "0.5")),
        ({"input": ["How", "many?"], "target": 1}, "not_a_row"),
        ({"input": "Is it so?", "target": True}, "not_a_row"),
        ({"input": "Which?", "target": " "}, "not_a_row"),
        ({"input": "Which?", "target": []}, "not_a_row"),
        ({"input": None, "target": "a"}, "not_a_row"),
    ],
)
def test_direct_reads_texts_and_numbers_and_nothing_else(
    teacher: Teacher, server: ChatServer, item: dict[str, Any], becomes: Any
):
    server.answer = json.dumps([item])
    task = Task(instruction="Count.", kind="generation")
    row = made("direct", Given(task, teacher, [], []), rows=1, batch=1)[-1]
    assert (row.reason if isinstance(row, Dropped) else (row.input, row.target)) == becomes


CHOICE = Task.model_validate({"instruction": "Pick.", "kind": "choice", "fields": {"choices": "options"}})
WHERE = Example(id="w", input="Where is row 1?", choices=("bank", "bridge"), target="bank")


def test_direct_shows_the_first_of_several_references_and_reads_an_answer_in_a_list(
    teacher: Teacher, server: ChatServer
):
    task = Task(instruction="Where?", kind="extraction")
    train = [Example(id="t0", input="In Rome, today.", target=("Rome", "In Rome"))]
    server.answer = lambda messages: json.dumps(
        [{"input": "In Oslo.", "target": ["Oslo"]}, {"input": "In Bern.", "target": ["Bern", "In Bern"]}]
    )
    rows = made("direct", Given(task, teacher, train, []), rows=2, batch=2)[len(TRAIN) :]
    assert '"target":"Rome"' in server.bodies[0]["messages"][0]["content"].replace(" ", "")
    assert [row.target for row in rows if isinstance(row, Example)] == ["Oslo"]
    assert [row.reason for row in rows if isinstance(row, Dropped)] == ["not_a_row"]


def test_answers_shows_the_options_and_reads_letter_or_words(teacher: Teacher, server: ChatServer):
    server.answer = lambda messages: "(B)" if messages[-1]["content"].count("row 2") else "The sea."
    asked = [WHERE.replace(id="2", input="Where is row 2?", target=None), WHERE.replace(id="3", input="And 3?")]
    recipe = open_recipe("answers")
    rows = list(recipe.make([], Given(CHOICE, teacher, [WHERE], asked), recipe_settings("answers", {"shots": 1}, "")))
    assert isinstance(rows[0], Example)
    assert rows[0].target == "bridge"
    assert isinstance(rows[1], Dropped)
    assert rows[1].reason == "not_a_choice"
    prompt = server.bodies[0]["messages"][0]["content"]
    assert "Input: Where is row 1?\n(A) bank\n(B) bridge\nAnswer: bank\n" in prompt
    assert "Input: Where is row 2?\n(A) bank\n(B) bridge\n\nReply with one option" in prompt


def test_direct_writes_options_for_a_choice_task(teacher: Teacher, server: ChatServer):
    good = {"input": "Which?", "choices": ["a", "b"], "target": "b"}
    server.answer = json.dumps(
        [good, good | {"target": "c"}, good | {"choices": ["b", "b"]}, {"input": "x", "target": "y"}]
    )
    recipe = open_recipe("direct")
    rows = list(
        recipe.make([], Given(CHOICE, teacher, [WHERE], []), recipe_settings("direct", {"rows": 4, "batch": 4}, ""))
    )
    assert [row.reason if isinstance(row, Dropped) else row.choices for row in rows] == [
        ("a", "b"),
        "not_a_choice",
        *["not_a_row"] * 2,
    ]
    assert (
        '{"input":"Where is row 1?","choices":["bank","bridge"],"target":"bank"}'
        in server.bodies[0]["messages"][0]["content"]
    )


@pytest.mark.parametrize(
    ("choices", "target", "becomes"),
    [
        (["bank ", " river"], "river\n", "river"),
        (["bank", "river"], "(B)", "river"),
        (["bank", "river"], "the Bank", "bank"),
        ([4, 7], 7, "7"),
        (["B", "A"], "B", "B"),
        (["It rains. He goes.", "He stays."], "It rains. He goes.", "It rains. He goes."),
        (["bank", "river"], "(A) or (B)", "ambiguous_choice"),
        (["bank", "river"], "C", "not_a_choice"),
        (["bank"], "bank", "not_a_row"),
        (["bank", None], "bank", "not_a_row"),
        ("bank", "bank", "not_a_row"),
    ],
)
def test_direct_reads_the_right_option_by_letter_or_words(
    teacher: Teacher, server: ChatServer, choices: Any, target: Any, becomes: str
):
    server.answer = json.dumps([{"input": "Which?", "choices": choices, "target": target}])
    row = made("direct", Given(CHOICE, teacher, [], []), rows=1, batch=1)[-1]
    assert (row.reason if isinstance(row, Dropped) else row.target) == becomes


@pytest.mark.parametrize(
    ("task", "train", "keys"),
    [
        ("labels", "t0 t1 t2 t3 t4 t5", "8d9104f5c5e7765d08118a43044b60b9 167c49b45d52959b5ad3a4bf81fadd23"),
        ("labels", "", "ff6649cf1844fe601071822acc0217c9 7f04a0fa8d5edfa7f095e0e73536f16a"),
        ("choice", "w", "36fce5012e3ba86b35bd8dc81f68c0ee 2051c6a9aa0f9177c7311df6fbc4211f"),
        ("texts", "xy", "400fd4494dd3bef29382f7d0b36d093f e0e8458f3ed0b19701f1e5b228c4b749"),
        ("texts", "", "50a3c360ada468630c77cf2b1099f2ef 7e5ef9a582ce9db8fe2094d509d919f5"),
    ],
)
def test_in_one_round_direct_asks_what_ledgers_and_cassettes_hold(
    teacher: Teacher, server: ChatServer, task: str, train: str, keys: str
):
    tasks = {"labels": TASK, "choice": CHOICE, "texts": Task(instruction="Turn it round.", kind="generation")}
    known = {row.id: row for row in (*TRAIN, WHERE, Example(id="xy", input="xy", target="yx"))}
    server.answer = "[0]"
    given = Given(tasks[task], teacher, [known[id] for id in train.split()], [])
    rows = made("direct", given, rows=4, batch=2, shots=2)[len(TRAIN) :]
    assert [row.example.replies for row in rows if isinstance(row, Dropped)] == [(f"b2:{key}",) for key in keys.split()]


def test_shots_are_taken_from_each_label_in_turn():
    rows = [
        *(Example(id=f"a{i}", input="x", target="red") for i in range(50)),
        Example(id="b", input="x", target="blue"),
    ]
    shots = draw_shots(rows, TASK, 4, 0, lambda text: False)
    assert sorted(shot.target for shot in shots if isinstance(shot.target, str)) == ["blue", "red", "red", "red"]
    assert shots == draw_shots(rows, TASK, 4, 0, lambda text: False)
    assert draw_shots(rows, TASK, 0, 0, lambda text: False) == []


def test_a_gold_row_near_a_test_row_is_no_shot():
    rows = [Example(id=f"r{i}", input=f"x {i}", target="red") for i in range(9)]
    first, *others = draw_shots(rows, TASK, 3, 0, lambda text: False)
    shots = draw_shots(rows, TASK, 3, 0, lambda text: text == first.input)
    assert len(shots) == 3
    assert shots[:2] == others
    assert first not in shots


def test_an_unknown_recipe_lists_the_known():
    with pytest.raises(understudy.UnderstudyError, match="Did you mean 'answers'. Known: answers, as_es, cothought"):
        open_recipe("answer")
