"""ReBase over a real datastore and a real endpoint: what is retrieved, what is asked, what is kept and dropped."""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import ChatServer
from toys import FILLER, WORDS, Toy, message, write_encoder, write_jsonl
from toys import rows as messages

import understudy
from understudy import Dropped, Example, Given, Ledger, Task, Teacher, open_teacher
from understudy.errors import DataError, SettingsError
from understudy.provenance import tell
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Row
from understudy.retrieve.building import build
from understudy.retrieve.dataset_source import DatasetSource
from understudy.workspace import Rows

TASK = Task(instruction="What is the message about?", kind="classification", labels=list(WORDS))
SHOTS = [Example(id=f"t{i}", input=row["text"], target=row["topic"]) for i, row in enumerate(messages(6, seed=1))]
LONG = " ".join(WORDS["money"]) + " " + "with the " * 200
ROWS = 20  # a table


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, encoder: str) -> str:
    """Three tables as people keep them, and their datastore."""
    folder = tmp_path_factory.mktemp("tables")
    draw = random.Random(0)
    with (folder / "letters.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["letter", "desk"])
        table.writerows([message(draw, "card"), f"desk {i}"] for i in range(ROWS))
    write_jsonl(folder / "notes.jsonl", [{"note": message(draw, "money"), "by": f"me {i}"} for i in range(ROWS)])
    wide = {"text": LONG, **{f"column {i}": LONG for i in range(20)}}
    plain = [{"said": message(draw, "login"), "when": {"day": f"day {i}", "hour": i}} for i in range(ROWS - 1)]
    write_jsonl(folder / "talks.jsonl", [*plain, wide])
    about = {"letters": "letters to a bank", "notes": "notes about money", "talks": "what people said"}
    suffixes = {"letters": "csv", "notes": "jsonl", "talks": "jsonl"}
    sources = [
        DatasetSource(path=str(folder / f"{name}.{suffixes[name]}"), name=name, description=text, licence="CC0")
        for name, text in about.items()
    ]
    build(folder / "store", sources, encoder=encoder)
    return str(folder / "store")


@pytest.fixture
def teacher(server: ChatServer) -> Iterator[Teacher]:
    server.answer = rewrite
    settings = {"model": "tiny", "base_url": server.base_url, "concurrency": 1}  # so that requests come in order
    with Ledger.open() as ledger, open_teacher(settings, ledger) as opened:
        yield opened


def shown(messages: list[dict[str, str]]) -> dict[str, str]:
    """The retrieved row that the prompt shows."""
    return json.loads(messages[0]["content"].partition("what a question can be about:\n\n")[2].partition("\n")[0])


def shots_in(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The gold rows that the prompt shows."""
    return [json.loads(line) for line in body["messages"][0]["content"].splitlines() if line.startswith('{"input"')]


def rewrite(messages: list[dict[str, str]]) -> str:
    """A teacher that makes a message of whatever it is shown; what it judges is right."""
    if "Does it belong" in messages[0]["content"]:
        return "Yes."
    return written(f"help with: {' '.join(shown(messages).values())}"[:200], "money")


def written(input: str, output: Any, **more: Any) -> str:
    return json.dumps({"input": input, **more, "output": output})


def made(
    teacher: Teacher, store: str, task: Task = TASK, gold: list[Example] = SHOTS, leaks: Any = None, **settings: Any
) -> list[Row]:
    recipe = open_recipe("rebase")
    chosen = recipe_settings("rebase", {"datastore": store, **settings}, "chain")
    given = Given(task, teacher, gold, [], **({"leaks": leaks} if leaks else {}))
    return list(recipe.make([], given, chosen))


def kept(made: list[Row]) -> list[Example]:
    return [row for row in made if isinstance(row, Example)]


def reasons(made: list[Row]) -> Counter[str]:
    return Counter(row.reason for row in made if isinstance(row, Dropped))


def test_each_retrieved_row_becomes_a_row_of_the_task(teacher: Teacher, server: ChatServer, store: str):
    found = kept(made(teacher, store, rows=30))
    assert (len(found), server.requests) == (30, 30)
    assert {row.target for row in found} == {"money"}
    row = found[0]
    assert row.origin is not None
    dataset = row.origin.dataset
    assert row.id == f"rebase/{dataset}:{row.origin.row}"
    assert (row.origin.split, row.origin.licence) == ("datastore", "CC0")
    assert row.input == f"help with: {' '.join(row.fields['cells'].values())}"[:200]
    assert {row.fields["input_column"], row.fields["output_column"]} <= row.fields["cells"].keys()
    assert row.fields["dataset"] == dataset
    assert row.fields["score"] == pytest.approx(sum(row.fields["parts"]) / 3, abs=1e-3)
    scores = [row.fields["score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    assert len(row.parents) == 3
    assert set(row.parents) <= {shot.id for shot in SHOTS}
    assert len(row.replies) == 1


def test_the_prompt_holds_the_task_its_labels_the_shots_and_the_row(teacher: Teacher, server: ChatServer, store: str):
    (row,) = kept(made(teacher, store, rows=1, shots=2))
    prompt = server.bodies[0]["messages"][0]["content"]
    assert "\n\nWhat is the message about?\n\n" in prompt
    assert "\n- card\n- money\n- login\n" in prompt
    assert [(shot["input"], shot["output"]) for shot in shots_in(server.bodies[0])] == [
        (shot.input, shot.target) for id in row.parents for shot in SHOTS if shot.id == id
    ]
    assert f'"{row.fields["dataset"]}"' in prompt
    assert shown(server.bodies[0]["messages"]) == row.fields["cells"]
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["input", "output"]


def test_long_columns_are_cut_and_of_a_long_row_only_the_guessed_ones_are_shown(
    teacher: Teacher, server: ChatServer, store: str
):
    found = {row.id: row for row in kept(made(teacher, store, rows=3 * ROWS))}
    long = found["rebase/talks:19"]
    assert long.fields["cells"]["text"] == LONG.strip() or long.fields["cells"]["text"] == LONG
    (cells,) = [cells for body in server.bodies if max(map(len, (cells := shown(body["messages"])).values())) > 200]
    assert cells == {
        column: long.fields["cells"][column][:250]
        for column in (long.fields["input_column"], long.fields["output_column"])
    }


def test_with_five_per_cent_broken_replies_no_row_is_lost(teacher: Teacher, server: ChatServer, store: str):
    broken = ["desk 3", "me 7", "day 11"]

    def answer(messages: list[dict[str, str]]) -> str:
        row = set(shown(messages).values())
        if "desk 3" in row and len(messages) > 1:
            return rewrite(messages)  # at the second try it comes right
        return '{"question": "lost"}' if row & set(broken) else rewrite(messages)

    server.answer = answer
    found = made(teacher, store, rows=3 * ROWS)
    assert len(found) == 3 * ROWS == len({row.example.id if isinstance(row, Dropped) else row.id for row in found})
    assert reasons(found) == {"not_the_form": 2}
    assert server.requests == 3 * ROWS + 3  # one repair each
    assert {len(row.replies) for row in kept(found)} == {1, 2}
    assert all(isinstance(row, Example) or row.example.fields["cells"] for row in found)


def test_what_is_no_row_of_the_task_is_dropped_with_the_reason(teacher: Teacher, server: ChatServer, store: str):
    shot, secret = SHOTS[0].input, "Test: how do I transfer my salary to another bank account please"
    replies = {
        "desk 0": written("One?", "MONEY"),
        "desk 1": written("Two?", "insurance"),
        "desk 2": written(shot.upper(), "card"),
        "desk 3": written("one", "card"),
        "desk 4": written(f"{secret}!", "money"),
        "desk 5": written(" ", "money"),
        "desk 6": written("Three?", ""),
    }
    server.answer = lambda messages: replies.get(shown(messages)["desk"], rewrite(messages))
    found = made(
        teacher, store, rows=ROWS, gold=SHOTS[:3], exclude=["notes", "talks"], leaks=lambda text: "Test:" in text
    )
    desks = [(row.example if isinstance(row, Dropped) else row).fields["cells"]["desk"] for row in found]
    dropped = {row.example.fields["cells"]["desk"]: row.reason for row in found if isinstance(row, Dropped)}
    assert dropped == {
        max("desk 0", "desk 3", key=desks.index): "copy_of_output",  # of the two the one that was retrieved later
        "desk 1": "not_a_label",
        "desk 2": "copy_of_shot",
        "desk 4": "near_test_split",
        "desk 5": "empty_input",
        "desk 6": "not_a_label",
    }
    assert {row.target for row in kept(found)} <= {"money", "card"}  # as the task spells them


LETTERS = {"kind": "multilabel", "labels": ["a", "b", "c"]}


@pytest.mark.parametrize(
    ("task", "target", "output", "becomes"),
    [
        ({"kind": "extraction"}, ("salary", "my salary"), "The Chip", "The Chip"),
        ({"kind": "extraction"}, ("salary", "my salary"), "a chip", "not_a_span"),
        ({"kind": "numeric"}, "7", 12, "12"),
        ({"kind": "numeric"}, "7", "twelve", "not_a_number"),
        ({"kind": "generation"}, "x", " ", "empty_output"),
        (LETTERS, ("a", "b"), ["C", "a"], ("a", "c")),
        (LETTERS, ("a", "b"), ["d"], "not_a_label"),
        (LETTERS, ("a", "b"), "a", "not_the_form"),
    ],
)
def test_answers_of_every_kind(
    teacher: Teacher, server: ChatServer, store: str, task: dict[str, Any], target: Any, output: Any, becomes: Any
):
    server.answer = written("Where is the chip?", output)
    gold = [Example(id="t", input="Where is my salary?", target=target)]
    (row,) = made(teacher, store, Task.model_validate({"instruction": "Say.", **task}), gold, rows=1)
    assert (row.reason if isinstance(row, Dropped) else row.target) == becomes
    (shot,) = shots_in(server.bodies[0])
    assert shot["output"] == (list(target) if task is LETTERS else target[0] if isinstance(target, tuple) else target)


CHOICE = Task.model_validate({"instruction": "Pick.", "kind": "choice", "fields": {"choices": "options"}})
WHERE = Example(id="w", input="Where is it?", choices=("bank", "bridge"), target="bank", rationale="It is money.")


@pytest.mark.parametrize(
    ("options", "output", "becomes"),
    [
        (["bank ", "river"], "river", ("bank", "river")),
        (["bank", "river"], "(B)", ("bank", "river")),
        (["bank", "river"], "sea", "not_a_choice"),
        (["bank", "bank", "river"], "river", "repeated_choice"),
    ],
)
def test_a_choice_comes_with_its_options(
    teacher: Teacher, server: ChatServer, store: str, options: list[str], output: str, becomes: Any
):
    server.answer = written("Where is the chip?", output, options=options)
    (row,) = made(teacher, store, CHOICE, [WHERE], rows=1)
    assert (row.reason if isinstance(row, Dropped) else row.choices) == becomes
    prompt = server.bodies[0]["messages"][0]["content"]
    assert '\n{"input":"Where is it?","options":["bank","bridge"],"output":"bank"}\n' in prompt
    if isinstance(row, Example):
        assert row.target == "river"


def test_with_reasoning_the_rationale_comes_before_the_output_and_is_kept(
    teacher: Teacher, server: ChatServer, store: str
):
    gold = [SHOTS[0].replace(rationale="It has a chip."), *SHOTS[1:]]
    server.answer = written("My chip is lost.", "card", rationale="Chips are of cards. ")
    (row,) = kept(made(teacher, store, gold=gold, rows=1, reasoning=True))
    assert (row.target, row.rationale) == ("card", "Chips are of cards.")
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["input", "rationale", "output"]
    assert open_recipe("rebase").gives(recipe_settings("rebase", {"datastore": store, "reasoning": True}, "")) == {
        "target",
        "rationale",
    }
    server.answer = written("My chip is lost.", "card", rationale="")
    assert reasons(made(teacher, store, rows=1, reasoning=True, gold=SHOTS[:2])) == {"empty_rationale": 1}


def test_the_judge_drops_what_does_not_belong(teacher: Teacher, server: ChatServer, store: str):
    def answer(messages: list[dict[str, str]]) -> str:
        text = messages[0]["content"]
        if "Does it belong" not in text:
            return rewrite(messages)
        return "No, it does not." if "desk 1" in text else "Well ..." if "desk 2" in text else "**Yes**"

    server.answer = answer
    found = made(teacher, store, rows=ROWS, judge=True, exclude=["notes", "talks"])
    assert len(found) == ROWS
    assert server.requests == 2 * ROWS
    assert reasons(found) == {"judge_no": 11, "judge_unclear": 1}  # desk 1 and 10 to 19; desk 2
    assert {len(row.replies) for row in kept(found)} == {2}
    out = next(row for row in found if isinstance(row, Dropped))
    assert out.example.input.startswith("help with: ")
    assert len(out.example.replies) == 2


def test_a_row_of_which_a_cell_leaks_is_never_retrieved(teacher: Teacher, server: ChatServer, store: str):
    found = made(teacher, store, rows=3 * ROWS, leaks=lambda text: text in ("desk 3", "me 4"))
    assert len(found) == server.requests == 3 * ROWS - 2
    assert not any("desk 3" in str(body) for body in server.bodies)


def test_what_is_excluded_or_over_the_cap_is_not_retrieved(teacher: Teacher, store: str):
    found = kept(made(teacher, store, rows=ROWS, exclude=["notes"], per_dataset=4))
    assert Counter(row.fields["dataset"] for row in found) == {"letters": 4, "talks": 4}


def test_nothing_to_retrieve_or_to_search_by_is_said(teacher: Teacher, server: ChatServer, store: str):
    with pytest.raises(DataError, match="every row of the datastore .* is excluded or near a test row"):
        made(teacher, store, leaks=lambda text: text not in {shot.input for shot in SHOTS})
    with pytest.raises(DataError, match="has an answer, and is not near a test row, to search by"):
        made(teacher, store, leaks=lambda text: True)
    with pytest.raises(DataError, match=r"no row of task\.train has an answer"):
        made(teacher, store, gold=[Example(id="t", input="x")])
    with pytest.raises(SettingsError, match=r"rebase\.datastore: this key is required"):
        recipe_settings("rebase", {}, "chain")
    assert server.requests == 0


def test_a_store_of_another_encoder_is_refused_with_both_named(
    teacher: Teacher, server: ChatServer, store: str, tmp_path: Path
):
    other = write_encoder(tmp_path / "encoder", {"topic": ["other"]})
    source = write_jsonl(tmp_path / "rows.jsonl", [{"a": "other", "b": "please"}])
    build(tmp_path / "store", [DatasetSource(path=str(source))], encoder=other)
    write_encoder(tmp_path / "encoder")  # another one in its place
    with pytest.raises(DataError, match="encoder") as refused:
        made(teacher, str(tmp_path / "store"))
    assert server.requests == 0
    assert other in str(refused.value)


@pytest.fixture
def study(toy: Toy, store: str) -> Toy:
    toy.server.answer = rewrite
    toy.study["arms"] = {"rebase": [{"rebase": {"datastore": store, "rows": 50, "judge": True}}]}
    toy.study["seeds"] = [0]
    toy.save()
    return toy


def files(folder: Path) -> dict[str, bytes]:
    paths = [*folder.glob("steps/*/*.parquet"), *folder.glob("arms/*/chain.json")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_run_again_asks_nothing_and_gives_the_same_files(study: Toy, tmp_path: Path):
    report = understudy.run(study.path, folder=study.runs)
    counted = report["arms"]["rebase"]["rows"]
    assert (counted["in"], counted["made"]) == (12, 50)
    assert counted["in"] + counted["made"] == counted["kept"] + sum(counted["dropped"].values())
    asked = study.server.requests
    assert asked == 50 + counted["made"] - sum(counted["dropped"].values())
    understudy.run(study.path, folder=tmp_path / "again")
    assert study.server.requests == asked
    assert files(tmp_path / "again") == files(study.runs)
    manifests = [path.read_text() for path in study.runs.glob("steps/*/done.json")]
    assert not any("tables" in text for text in manifests)  # the place of the store is no part of a step


@pytest.mark.slow
def test_the_example_has_a_reply_to_every_prompt_and_a_run_again_asks_nothing(tmp_path: Path):
    example = Path(__file__).parents[2] / "examples" / "rebase-offline.yaml"
    changes = ["seeds=[0]", "student.layers=1"]  # for speed
    reports = [understudy.run(example, folder=tmp_path / name, changes=changes) for name in ("first", "again")]
    for arm in ("direct", "rebase", "both"):
        first, again = (report["arms"][arm] for report in reports)
        assert first["rows"]["made"] > 0
        assert "no_recorded_reply" not in first["rows"]["dropped"]
        assert again["teacher"]["requests"] == again["teacher"]["from_ledger"] == first["teacher"]["requests"] > 0
    assert files(tmp_path / "first") == files(tmp_path / "again")
    assert files(tmp_path / "first")


@pytest.mark.slow
def test_a_row_is_explained_with_the_row_it_was_made_of_the_prompt_and_the_reply(study: Toy):
    understudy.run(study.path, folder=study.runs)
    ids = [row.id for step in study.runs.glob("steps/*") for row in Rows(step) if row.id.startswith("rebase/letters:")]
    history = understudy.explain(study.runs, ids[0])
    assert history["fields"]["cells"].keys() == {"letter", "desk"}
    assert (history["origin"]["dataset"], history["origin"]["licence"]) == ("letters", "CC0")
    rewriting, judging = history["replies"]
    assert shown(rewriting["prompt"]) == history["fields"]["cells"]
    assert json.loads(rewriting["reply"])["input"] == history["row"]["input"]
    assert judging["reply"] == "Yes."
    assert len(history["parents"]) == 3
    told = tell(history)
    assert f'"desk":"{history["fields"]["cells"]["desk"]}"' in told
    assert "source: letters, row" in told


def test_a_rehearsal_counts_the_judge_too_and_asks_nobody(study: Toy):
    (step,) = understudy.rehearse(study.path)
    assert (step.recipe, step.requests, study.server.requests) == ("rebase", 100, 0)
    assert "You write questions for a test." in step.prompts[0][0]["content"]


def test_test_rows_that_are_in_the_store_too_reach_no_prompt(study: Toy, encoder: str, tmp_path: Path):
    long = {"text": "please help me with my card as it was stolen today and the app is locked", "topic": "card"}
    tests = [*messages(24, seed=3), long]
    write_jsonl(study.folder / "test.jsonl", tests)
    near = [{"said": f"Again: {long['text']}!"}, {"said": "please help me with my card as it was stolen today, I beg"}]
    stored = [{"said": row["text"].upper(), "desk": row["topic"]} for row in tests] + near
    path = write_jsonl(tmp_path / "stored.jsonl", [*stored, {"said": "please help me with my card"}])
    build(tmp_path / "store", [DatasetSource(path=str(path))], encoder=encoder)
    study.study["arms"]["rebase"][0]["rebase"] |= {"datastore": str(tmp_path / "store"), "judge": False}
    study.save()
    (step,) = understudy.rehearse(study.path, prompts=100)
    assert [shown(list(prompt)) for prompt in step.prompts] == [{"said": "please help me with my card"}]


def test_a_missing_store_is_found_before_anyone_is_asked(study: Toy):
    missing = {"rebase": [{"rebase": {"datastore": "nowhere"}}], "answers": ["answers"]}
    study.study["arms"] = missing
    study.save()
    with pytest.raises(DataError, match=f"{study.folder}/nowhere: no datastore"):
        understudy.run(study.path, folder=study.runs)
    assert study.server.requests == 0


@pytest.mark.slow
def test_what_is_added_to_the_store_makes_the_step_anew(study: Toy, store: str, encoder: str, tmp_path: Path):
    place = tmp_path / "store"
    shutil.copytree(store, place)
    study.study["arms"]["rebase"][0]["rebase"] |= {"datastore": str(place), "judge": False, "rows": 100}
    study.save()
    understudy.run(study.path, folder=study.runs)
    asked = study.server.requests
    more = write_jsonl(tmp_path / "more.jsonl", [{"text": f"please help {word}"} for word in (*FILLER, "card")])
    build(place, [DatasetSource(path=str(more), description="more")], encoder=encoder)
    understudy.run(study.path, folder=study.runs)
    assert study.server.requests == asked + len(FILLER) + 1
