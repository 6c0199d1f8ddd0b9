"""TeacherLM against a real endpoint and recorded replies: what is asked, what becomes of a row, what is dropped."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import ChatServer
from toys import write_jsonl

from understudy import Dropped, Example, Given, Ledger, Task, Teacher, open_teacher
from understudy.errors import SettingsError
from understudy.lessons import Classroom
from understudy.progress import Silent
from understudy.reading import load_test
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Row
from understudy.students.serial import RankBy, text_of
from understudy.study_file import load_study
from understudy.workspace import Workspace

TASK = Task.model_validate({"instruction": "Pick one.", "kind": "choice", "fields": {"choices": "options"}})
ROWS = [
    Example(id=f"r{i}", input=f"Where  is row {i}?", target="bridge", choices=("bank", "bridge"), fields={"key": i})
    for i in range(5)
]
WORDS = {"Do not\nsolve it": "fundamentals", "Reason step by step": "rationale", "mistakes people": "mistakes"}
DATA = Path(os.environ.get("UNDERSTUDY_DATA", "/nowhere"))


@pytest.fixture
def teacher(server: ChatServer) -> Iterator[Teacher]:
    server.answer = lambda messages: f" {asked_for(messages)} of {row_of(messages)}: it is (B) bridge.\n"
    settings = {"model": "tiny", "base_url": server.base_url, "concurrency": 1}  # so that requests come in order
    with Ledger.open() as ledger, open_teacher(settings, ledger) as opened:
        yield opened


def asked_for(messages: list[dict[str, str]]) -> str:
    (name,) = [name for words, name in WORDS.items() if words in messages[-1]["content"]]
    return name


def row_of(messages: list[dict[str, str]]) -> str:
    return messages[-1]["content"].partition("is row ")[2][0]


def made(
    teacher: Teacher, rows: Iterable[Example] = ROWS, task: Task = TASK, seed: int = 0, **settings: Any
) -> list[Row]:
    recipe = open_recipe("teacherlm")
    chosen = recipe_settings("teacherlm", settings, "chain")
    return list(recipe.make(rows, Given(task, teacher, [], [], seed), chosen))


def kept(rows: Iterable[Row]) -> list[Example]:
    return [row for row in rows if isinstance(row, Example)]


def test_each_row_gets_its_three_explanations(teacher: Teacher, server: ChatServer):
    rows = kept(made(teacher))
    assert server.requests == 15
    assert [row.id for row in rows] == [f"r{i}+teacherlm" for i in range(5)]
    row = rows[3]
    assert (row.target, row.choices, row.parents, row.fields) == ("bridge", ("bank", "bridge"), ("r3",), {"key": 3})
    assert row.rationale == "rationale of 3: it is (B) bridge."
    assert set(row.notes) == {"fundamentals", "mistakes", "explanations"}
    assert row.notes["explanations"] == "\n\n".join(
        f"{name} of 3: it is (B) bridge." for name in ("fundamentals", "rationale", "mistakes")
    )
    assert len(set(row.replies)) == 3


def test_the_prompt_ends_with_the_solved_row_and_the_trigger(teacher: Teacher, server: ChatServer):
    made(teacher, ROWS[:1], explanations=["mistakes"])
    prompt = server.bodies[0]["messages"][0]["content"]
    assert prompt.startswith("Pick one.\n\nBelow is a solved example of this task.")
    end = "Q: Where is row 0? (A) bank (B) bridge\nA: The answer is (B).\nThe common mistakes are:"
    assert prompt.endswith(f"and nothing else.\n\n{end}")
    server.answer = "The common mistakes are: none."
    (row,) = kept(made(teacher, ROWS[:1], explanations=["mistakes"], bare=True))
    assert server.bodies[1]["messages"][0]["content"] == end
    assert row.notes["mistakes"] == "none."  # the trigger is not part of it


@pytest.mark.parametrize("way", ["letter", "text"])
def test_a_teacherlm_is_asked_in_the_words_that_it_has_learnt(teacher: Teacher, server: ChatServer, way: RankBy):
    row = ROWS[0].replace(input="Where is row 0?")
    (lesson,) = kept(made(teacher, [row], explanations=["rationale"], triggers=True))
    learnt = "".join(text_of(lesson, TASK, way))
    server.answer = "It is the bridge."
    made(teacher, [row], explanations=["rationale"], bare=True, answer=way)
    asked = server.bodies[-1]["messages"][0]["content"]
    assert learnt.startswith(asked)
    assert ("bridge." in asked) == (way == "text")


@pytest.mark.parametrize(
    "names", [("mistakes",), ("rationale", "fundamentals"), ("mistakes", "fundamentals", "rationale")]
)
def test_any_of_them_in_any_order(teacher: Teacher, server: ChatServer, names: tuple[str, ...]):
    rows = kept(made(teacher, [row.replace(rationale="gold") for row in ROWS], explanations=names))
    assert [part.split()[0] for part in rows[0].notes["explanations"].split("\n\n")] == list(names)
    assert rows[0].rationale == ("rationale of 0: it is (B) bridge." if "rationale" in names else "gold")
    assert open_recipe("teacherlm").gives(recipe_settings("teacherlm", {"explanations": names}, "")) == {
        *names,
        "explanations",
    }
    assert server.requests == 5 * len(names)


def test_specialists_add_their_explanations_one_after_the_other(teacher: Teacher):
    first = kept(made(teacher, explanations=["mistakes"]))
    (row, *_) = kept(made(teacher, first, explanations=["rationale"]))
    assert row.notes["explanations"] == "mistakes of 0: it is (B) bridge.\n\nrationale of 0: it is (B) bridge."
    assert len(set(row.replies)) == 2
    assert row.notes["mistakes"] == "mistakes of 0: it is (B) bridge."


def test_a_teacherlm_to_be_learns_the_triggers(teacher: Teacher):
    (row, *_) = kept(made(teacher, explanations=["rationale", "mistakes"], triggers=True))
    assert row.notes["explanations"] == (
        "Let's think step by step. rationale of 0: it is (B) bridge.\n\n"
        "The common mistakes are: mistakes of 0: it is (B) bridge."
    )
    assert row.notes["mistakes"] == "mistakes of 0: it is (B) bridge."


def test_all_stages_of_a_teacherlm_at_once(teacher: Teacher):
    rows = kept(made(teacher, ROWS[:2], mixed=True))
    assert [row.id for row in rows[:5]] == [
        f"r0+teacherlm.{part}" for part in ("answer", "all", "fundamentals", "rationale", "mistakes")
    ]
    assert {row.parents for row in rows[5:]} == {("r1",)}
    words = [[part.split()[0] for part in row.notes.get("explanations", "").split("\n\n") if part] for row in rows[:5]]
    every = ["fundamentals", "rationale", "mistakes"]
    assert words == [[], every, *([name] for name in every)]


def test_all_stages_of_one_explanation_hold_no_row_twice(teacher: Teacher):
    rows = kept(made(teacher, ROWS[:1], explanations=["mistakes"], mixed=True))
    assert [row.id for row in rows] == ["r0+teacherlm.answer", "r0+teacherlm.mistakes"]


def test_another_order_asks_for_nothing_new(teacher: Teacher, server: ChatServer):
    made(teacher)
    made(teacher, explanations=["mistakes", "rationale"])
    made(teacher, shuffle=True)
    assert server.requests == 15


def test_a_shuffled_order_is_drawn_a_row_and_the_same_on_every_run(teacher: Teacher):
    rows = [row.replace(id=f"{row.id}-{copy}") for copy in range(8) for row in ROWS]
    orders = [row.notes["explanations"] for row in kept(made(teacher, rows, shuffle=True))]
    assert len({tuple(part.split()[0] for part in order.split("\n\n")) for order in orders}) == 6
    assert orders == [row.notes["explanations"] for row in kept(made(teacher, rows, shuffle=True))]
    assert orders != [row.notes["explanations"] for row in kept(made(teacher, rows, shuffle=True, seed=1))]
    few = [row.notes["explanations"] for row in kept(made(teacher, rows[20:], shuffle=True))]
    assert few == orders[20:]  # whatever other rows there are


def test_a_row_whose_explanation_fails_is_dropped_with_its_reason(teacher: Teacher, server: ChatServer):
    answer = server.answer
    assert callable(answer)
    server.answer = lambda messages: (
        "The common mistakes are:" if (asked_for(messages), row_of(messages)) == ("mistakes", "2") else answer(messages)
    )
    server.refuse = {"is row 4": 400}
    rows = made(teacher)
    assert [type(row) for row in rows] == [Example, Example, Dropped, Example, Dropped]
    empty, refused = [row for row in rows if isinstance(row, Dropped)]
    assert (empty.example.id, empty.step, empty.reason) == ("r2", "teacherlm", "empty_reply")
    assert empty.detail == "mistakes: the teacher wrote nothing after the trigger"
    assert len(empty.example.replies) == 3  # all that was written can be read
    assert (refused.example.id, refused.reason, refused.example.fields) == ("r4", "bad_request", {"key": 4})


def test_rows_that_cannot_be_asked_about_are_dropped_in_their_place(teacher: Teacher, server: ChatServer):
    odd = [ROWS[0].replace(id="open", target=None), ROWS[0].replace(id="other", target="sea")]
    odd.append(ROWS[0].replace(id="many", choices=("bridge", *map(str, range(26)))))
    rows = made(teacher, [ROWS[0], *odd, ROWS[1]])
    assert [row.reason if isinstance(row, Dropped) else row.id for row in rows] == [
        *("r0+teacherlm", "no_target", "not_solved", "not_solved", "r1+teacherlm"),
    ]
    assert server.requests == 6


def test_the_filter_drops_what_argues_for_another_answer_and_shows_it(teacher: Teacher, server: ChatServer):
    answer = server.answer
    assert callable(answer)
    server.answer = lambda messages: "So the answer is (A)." if row_of(messages) == "1" else answer(messages)
    assert len(kept(made(teacher))) == 5
    dropped = made(teacher, filter="agrees")[1]
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.example.id) == ("rationale_disagrees", "r1")
    assert dropped.detail == "the answer is 'bridge', the rationale ends: 'So the answer is (A).'"
    assert dropped.example.rationale == "So the answer is (A)."


def test_the_filter_reads_labels_numbers_and_texts_as_their_kinds_do(teacher: Teacher, server: ChatServer):
    cases = [
        (Task(instruction="?", kind="classification", labels=["pos", "neg"]), "neg", "So it is neg.", "pos"),
        (Task(instruction="?", kind="numeric"), "1200", "3 * 400 = $1,200.00", "1300"),
        (Task(instruction="?", kind="generation"), "the sea", "So the answer is sea.", "a see"),
        (Task(instruction="?", kind="multilabel", labels=["pos", "neg"]), ("neg",), "So it is neg.", ("pos", "neg")),
    ]
    for task, right, reply, wrong in cases:
        server.answer = reply
        rows = [Example(id="a", input=str(task.kind), target=right), Example(id="b", input=task.kind, target=wrong)]
        first, second = made(teacher, rows, task, explanations=["rationale"], filter="agrees")
        assert isinstance(first, Example), task.kind
        assert isinstance(second, Dropped), task.kind


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"explanations": []}, "name at least one of fundamentals, rationale, mistakes, each once"),
        ({"explanations": ["mistakes", "mistakes"]}, "each once"),
        ({"explanations": ["cot"]}, "Input should be 'fundamentals', 'rationale' or 'mistakes'"),
        ({"explanations": ["mistakes"], "filter": "agrees"}, "add rationale to explanations"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], problem: str):
    with pytest.raises(SettingsError, match=problem):
        recipe_settings("teacherlm", settings, "chain")


def test_rows_stream(teacher: Teacher, server: ChatServer):
    read = 0

    def many() -> Iterator[Example]:
        nonlocal read
        for i in range(100_000):
            read = i
            yield ROWS[0].replace(id=str(i))

    rows = open_recipe("teacherlm").make(many(), Given(TASK, teacher, [], []), recipe_settings("teacherlm", {}, ""))
    assert isinstance(next(rows), Example)
    assert read < 1000
    rows.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_an_estimate_counts_every_explanation(server: ChatServer):
    settings = {"model": "tiny", "base_url": server.base_url}
    with Ledger.open() as ledger, open_teacher(settings, ledger, render_only=True) as teacher:
        rows = made(teacher)
        assert teacher.estimate().requests == 15
    assert [row.reason for row in rows if isinstance(row, Dropped)] == ["not_sent"] * 5
    assert server.requests == 0


def test_recorded_explanations_are_matched_by_row_and_by_what_is_asked_for(tmp_path: Path):
    write_jsonl(tmp_path / "long.jsonl", [
        {"key": i, "explanation": name, "reply": f"{name} {i}"} for i in (1, 0) for name in WORDS.values()
    ])  # fmt: skip
    write_jsonl(tmp_path / "wide.jsonl", [{"key": i, "cot": f"cot {i}", "errors": f"errors {i}"} for i in (0, 1)])

    def wide(name: str, reply: str) -> dict[str, Any]:
        when = f"{{{{ key if explanation == '{name}' else '' }}}}"
        return {"path": str(tmp_path / "wide.jsonl"), "match": {"key": when}, "reply": reply}

    long = {"path": str(tmp_path / "long.jsonl"), "match": {"key": "key", "explanation": "explanation"}}
    for replies, told in (
        ([long], "rationale 1\n\nmistakes 1"),
        ([wide("mistakes", "errors"), wide("rationale", "cot")], "cot 1\n\nerrors 1"),
    ):
        with Ledger.open() as ledger, open_teacher({"backend": "recorded", "replies": replies}, ledger) as teacher:
            rows = made(teacher, ROWS[:3], explanations=["rationale", "mistakes"])
            assert teacher.usage().recorded == 4
        assert [row.notes["explanations"] for row in kept(rows)][1] == told
        assert isinstance(rows[2], Dropped)
        assert rows[2].reason == "no_recorded_reply"


def test_a_step_of_a_study_loses_no_row(tmp_path: Path, server: ChatServer):
    row = {"q": "Where?", "options": {"label": ["A", "B"], "text": ["bank", "bridge"]}}
    train = [row | {"q": f"Where  is row {i}?", "answer": "AB?"[i % 3]} for i in range(9)]
    write_jsonl(tmp_path / "train.jsonl", train)
    write_jsonl(tmp_path / "test.jsonl", [row | {"answer": "A"}])
    server.answer = lambda messages: "So the answer is bank."
    study, _ = load_study(
        {
            "name": "toy",
            "task": {
                "instruction": "Pick one.",
                "kind": "choice",
                "fields": {"input": "q", "choices": "options", "target": "answer"},
                "train": str(tmp_path / "train.jsonl"),
                "test": str(tmp_path / "test.jsonl"),
                "metrics": ["accuracy"],
            },
            "teacher": {"model": "tiny", "base_url": server.base_url},
            "student": {"kind": "classifier"},
            "arms": {"all": ["teacherlm"], "agreeing": [{"teacherlm": {"filter": "agrees"}}]},
        }
    )
    with Workspace(tmp_path / "run") as workspace, Ledger.open() as ledger:
        test = load_test(workspace, study.task)
        with Classroom(workspace, study, test, ledger, Silent()) as room:
            every, agreeing = room.lessons(study.plans())
    source, step = every.steps
    assert source.taken.dropped == {"not_a_choice": 3}
    assert next(iter(source.dropped())).detail == "'?' is none of 'bank', 'bridge'"
    assert (step.taken.rows_in, step.taken.made, step.taken.kept, step.taken.joined) == (6, 6, 6, 6)
    assert agreeing.rows.taken.dropped == {"rationale_disagrees": 3}
    assert {row.target for row in every.rows} == {"bank", "bridge"}
    assert {row.target for row in agreeing.rows} == {"bank"}


def read_rows(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.mark.skipif(not (DATA / "teacher_claude_csqa").exists(), reason="UNDERSTUDY_DATA has no teacher_claude_csqa")
def test_the_recorded_explanations_of_the_example(monkeypatch: pytest.MonkeyPatch):
    study, _ = load_study(Path(__file__).parents[2] / "examples" / "teacherlm-offline.yaml")
    arms = {arm.name: arm for arm in study.plans()}
    rows = [study.task.example(row, id=row["id"]) for row in read_rows(DATA / "teacher_claude_csqa" / "train.jsonl.gz")]
    for name, count in (("all three", 300), ("PaLM's rationale", 300), ("PaLM's rationale, if it agrees", 224)):
        (link,) = arms[name].chain
        assert link.teacher is not None
        with Ledger.open() as ledger, open_teacher(link.teacher, ledger) as teacher:
            made = kept(open_recipe(link.recipe).make(rows, Given(study.task, teacher, [], []), link.settings))
        assert len(made) == count, name
        if name == "all three":
            assert made[0].notes["mistakes"] == rows[0].fields["mistakes"]
            assert made[0].rationale == rows[0].fields["chain_of_thought"]
