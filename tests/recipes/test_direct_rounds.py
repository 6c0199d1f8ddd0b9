"""Direct in rounds against a real endpoint: what later prompts show, how warm the teacher is, what a stop leaves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from servers import ChatServer
from toys import Toy, write_jsonl

import understudy
from understudy import Dropped, Example, Given, Ledger, Task, Teacher, open_teacher
from understudy.errors import SettingsError
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Row, digest
from understudy.rehearsal import rehearse, tell_estimate
from understudy.teachers import NOT_IN_LEDGER, Request

TASK = Task(instruction="Which?", kind="classification", labels=["red", "blue"])
TRAIN = [Example(id=f"t{i}", input=f"gold {i}", target=("red", "blue")[i % 2]) for i in range(6)]


def write(messages: list[dict[str, str]]) -> str:
    """New rows that no other prompt brings."""
    prompt = messages[-1]["content"]
    (count,) = re.findall(r"Write (\d+) new", prompt)
    return json.dumps([f"{label_of(prompt)} {digest(prompt, size=4)} {i}" for i in range(int(count))])


def label_of(prompt: str) -> str:
    return re.findall(r'inputs whose answer is "(\w+)" and no', prompt)[0]


@pytest.fixture
def teacher(server: ChatServer) -> Iterator[Teacher]:
    server.answer = write
    settings = {"model": "tiny", "base_url": server.base_url, "sampling": {"temperature": 0.1, "max_tokens": 900}}
    with Ledger.open() as ledger, open_teacher(settings, ledger) as opened:
        yield opened


def written(teacher: Teacher, given: Given | None = None, **settings: Any) -> Iterator[Row]:
    recipe = open_recipe("direct")
    chosen = recipe_settings("direct", {"rows": 24, "batch": 4, "shots": 1, "rounds": 3} | settings, "chain")
    return recipe.make([], given or Given(TASK, teacher, TRAIN, []), chosen)


def rounds_of(server: ChatServer) -> dict[float, dict[str, list[str]]]:
    """Temperature -> label -> the earlier rows that its prompt shows."""
    found: dict[float, dict[str, list[str]]] = {}
    for body in server.bodies:
        prompt = body["messages"][0]["content"]
        shown = prompt.partition("that were written before:\n")[2].partition("\n\n")[0]
        lines = [line.removeprefix("- ") for line in shown.splitlines()]
        found.setdefault(body["temperature"], {})[label_of(prompt)] = lines
    return found


def test_later_rounds_show_rows_of_all_rounds_before_and_are_warmer(teacher: Teacher, server: ChatServer):
    rows = list(written(teacher, shown=7))
    inputs = [row.input for row in rows if isinstance(row, Example)]
    assert len(inputs) == len(set(inputs)) == 24  # 4 of each label in each of 3 rounds
    found = rounds_of(server)
    assert list(found) == [0.5, 1.1, 1.7]
    assert all(body["max_tokens"] == 900 for body in server.bodies)
    first, second, third = found.values()
    assert first == {"red": [], "blue": []}
    for label in ("red", "blue"):
        of_label = [text for text in inputs if text.startswith(label)]
        assert 1 <= len(second[label]) <= 7
        assert set(second[label]) <= set(of_label[:4])
        assert set(third[label]) <= set(of_label[:8])
    assert {row.fields["round"] for row in rows if isinstance(row, Example)} == {1, 2, 3}


def test_a_run_that_was_killed_asks_the_same_again(server: ChatServer, teacher: Teacher):
    stopped = written(teacher, rounds=4, rows=32)
    before = list(islice(stopped, 13))  # in the second round
    assert len({body["temperature"] for body in server.bodies}) == 2
    del stopped
    rows = list(written(teacher, rounds=4, rows=32))
    assert rows[:13] == before
    assert (server.requests, server.doubles) == (8, 0)


def test_the_temperature_may_stay_the_teachers_own(teacher: Teacher, server: ChatServer):
    list(written(teacher, temperature=None))
    assert {body["temperature"] for body in server.bodies} == {0.1}
    assert server.requests == 6
    server.bodies.clear()
    list(written(teacher, rounds=1))
    assert {body["temperature"] for body in server.bodies} == {0.1}
    with pytest.raises(SettingsError, match=r"chain.direct.temperature.0: .* greater than or equal to 0 \(got -1"):
        written(teacher, temperature=(-1, 2))


def test_rows_of_a_round_are_spread_over_whole_replies(teacher: Teacher, server: ChatServer):
    list(written(teacher, rows=50, rounds=5, batch=3))  # 5 a label and round: two replies of 3
    asked = [(body.get("n", 1), re.findall(r"Write (\d+)", body["messages"][0]["content"])) for body in server.bodies]
    assert asked == [(2, ["3"])] * 10


def test_what_is_out_is_never_shown(teacher: Teacher, server: ChatServer):
    leak, copy = "A row of the TEST split", "Gold 0!"

    def answer(messages: list[dict[str, str]]) -> str:
        return json.dumps(
            [leak, copy if "red" in label_of(messages[0]["content"]) else 3, *json.loads(write(messages))]
        )

    server.answer = answer
    given = Given(TASK, teacher, TRAIN[:2], [], leaks=lambda text: "TEST" in text)
    reasons = [row.reason for row in written(teacher, given, shown=1000) if isinstance(row, Dropped)]
    assert reasons == ["near_test_split", "copy_of_shot", "near_test_split", "not_a_row"] * 3
    prompts = [body["messages"][0]["content"] for body in server.bodies]
    assert not any(leak in prompt or copy in prompt for prompt in prompts)


def test_rows_without_labels_are_shown_whole(teacher: Teacher, server: ChatServer):
    task = Task.model_validate({"instruction": "Pick.", "kind": "choice", "fields": {"choices": "options"}})
    server.answer = lambda messages: json.dumps(
        [{"input": digest(str(messages), size=4), "choices": ["a", "b"], "target": "b"}]
    )
    rows = list(written(teacher, Given(task, teacher, [], []), rows=2, rounds=2))
    first, second = (body["messages"][0]["content"] for body in server.bodies)
    assert isinstance(rows[0], Example)
    line = f'{{"input":"{rows[0].input}","choices":["a","b"],"target":"b"}}'
    assert f"Pick.\n\n\n\nExamples that were written before:\n{line}\n\nWrite 1 new examples" in second
    assert "written before" not in first


def test_offline_no_round_is_asked_for_before_the_replies_of_the_last_are_there(teacher: Teacher, server: ChatServer):
    missing: list[Request] = []
    settings = teacher.settings
    with Ledger.open() as ledger, open_teacher(settings, ledger, offline=True, missing=missing.append) as absent:
        rows = list(written(absent))
        assert [row.reason for row in rows if isinstance(row, Dropped)] == [NOT_IN_LEDGER] * 2
        assert [request.sampling["temperature"] for request in missing] == [0.5, 0.5]
        whole = list(written(teacher))
        assert list(written(absent)) == whole
    assert len(missing) == 2


def test_recorded_replies_may_go_by_the_round(tmp_path: Path):
    lines = [
        {"label": label, "round": turn, "reply": json.dumps([f"{label} of round {turn}"])}
        for label in ("red", "blue")
        for turn in (1, 2)
    ]
    path = write_jsonl(tmp_path / "replies.jsonl", lines)
    replies = {"path": str(path), "match": {"label": "label", "round": "round"}}
    with Ledger.open() as ledger, open_teacher({"backend": "recorded", "replies": replies}, ledger) as recorded:
        rows = list(written(recorded, rows=4, rounds=2))
    assert [row.input for row in rows if isinstance(row, Example)] == [
        "red of round 1",
        "blue of round 1",
        "red of round 2",
        "blue of round 2",
    ]


def test_an_estimate_counts_every_round_and_says_what_it_cannot_know(toy: Toy):
    toy.study["arms"] = {"direct": [{"direct": {"rows": 12, "rounds": 2}}], "once": [{"direct": {"rows": 30}}]}
    toy.save()
    total = understudy.estimate(toy.path)
    assert [step["requests"] for step in total["steps"]] == [6, 3]
    *_, last = tell_estimate(total).splitlines()
    assert last.startswith("direct: the rows that prompts of later rounds show are not written yet")
    assert [bool(step["unforeseen"]) for step in total["steps"]] == [True, False]
    assert "Write 2 new inputs" in rehearse(toy.path)[0].prompts[0][0]["content"]
    assert toy.server.requests == 0
