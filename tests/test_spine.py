"""A study from rows to report, against a real endpoint on loopback and a tiny real student."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from toys import WORDS, Toy, rows, write_jsonl

import understudy
from understudy.errors import SettingsError, WorkspaceError
from understudy.records import Dropped, Example
from understudy.spine import mostly_dropped
from understudy.workspace import Rows, Workspace


def lessons(folder: Path, arm: str) -> Rows:
    """What an arm's students learnt from."""
    chain = orjson.loads((folder / "arms" / arm / "chain.json").read_bytes())
    return Rows(folder / "steps" / chain[-1]["key"])


def training_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("steps/*/*.parquet"))}


@pytest.mark.slow
def test_a_study_runs_end_to_end_and_a_second_run_does_nothing_again(toy: Toy):
    report = understudy.run(toy.path, folder=toy.runs)
    arms = report["arms"]
    assert list(arms) == ["gold", "answers", "both"]
    assert (arms["gold"]["training_rows"], arms["answers"]["training_rows"]) == (12, 42)
    dropped = arms["both"]["rows"]["dropped"]
    assert dropped.keys() <= {"duplicate", "copy_of_row", "copy_of_output"}
    assert arms["both"]["training_rows"] == 42 + 12 - sum(dropped.values())
    assert arms["answers"]["rows"] == {"in": 12, "made": 30, "kept": 42, "joined": 0, "dropped": {}}
    assert arms["answers"]["unlabelled"] == {"in": 30, "made": 0, "kept": 30, "joined": 0, "dropped": {}}
    assert arms["answers"]["teacher"] == {
        "requests": 30,
        "from_ledger": 0,
        "prompt_tokens": 300,
        "completion_tokens": 150,
        "usd": None,  # the study names no price
    }
    assert set(arms["gold"]["metrics"]["accuracy"]) >= {"mean", "low", "high", "per_seed"}
    assert {(c["a"], c["b"]) for c in report["comparisons"]} == {
        ("answers", "gold"),
        ("both", "gold"),
        ("both", "answers"),
    }
    assert toy.server.requests == 30 + 3  # three prompts of direct, asked once each for two samples
    assert toy.server.doubles == 0
    for seed in (0, 1):
        answers = pq.read_table(toy.runs / "arms" / "both" / f"seed-{seed}" / "predictions.parquet")
        assert answers.num_rows == 24
        model = understudy.load_model(toy.runs / "arms" / "both" / f"seed-{seed}" / "model")
        assert next(iter(model.predict(["card pin stolen"]))).output in WORDS
    assert orjson.loads((toy.runs / "report.json").read_bytes()) == report
    assert "| both" in (toy.runs / "REPORT.md").read_text()

    before = {path: path.stat().st_mtime_ns for path in toy.runs.rglob("*.parquet")}
    assert understudy.run(toy.path, folder=toy.runs) == report
    assert toy.server.requests == 33
    assert {path: path.stat().st_mtime_ns for path in toy.runs.rglob("*.parquet")} == before


@pytest.mark.slow
def test_the_same_study_with_the_same_ledger_gives_the_same_bytes_elsewhere(toy: Toy, tmp_path: Path):
    understudy.run(toy.path, folder=toy.runs)
    asked = toy.server.requests
    understudy.run(toy.path, folder=tmp_path / "elsewhere")
    assert toy.server.requests == asked
    assert training_files(tmp_path / "elsewhere") == training_files(toy.runs)


@pytest.mark.slow
def test_rows_are_conserved_at_every_step_and_the_test_split_stays_out(toy: Toy):
    test = rows(24, seed=3)
    loud = f"  {test[0]['text'].upper()}!  "
    write_jsonl(
        toy.folder / "train.jsonl",
        [*rows(12, seed=1), {"text": loud, "topic": "card"}, {"text": "  ", "topic": "card"}],
    )
    write_jsonl(toy.folder / "more.jsonl", [{"text": row["text"]} for row in [*rows(10, seed=2), test[1]]])
    report = understudy.run(toy.path, folder=toy.runs)
    for arm in report["arms"].values():
        for step in (arm["rows"], *arm["steps"]):
            assert step["in"] + step["made"] == step["kept"] + step["joined"] + sum(step["dropped"].values())
    assert report["arms"]["gold"]["rows"]["dropped"] == {"empty_input": 1, "in_test_split": 1}
    texts = {row["text"] for row in test}
    for arm in report["arms"]:
        assert not texts & {row.input for row in lessons(toy.runs, arm)}
    sent = " ".join(body["messages"][0]["content"] for body in toy.server.bodies)
    assert loud.strip() not in sent
    assert test[1]["text"] not in sent


@pytest.mark.slow
def test_a_reply_that_is_no_label_drops_its_row_and_the_run_goes_on(toy: Toy):
    answer = toy.server.answer
    assert callable(answer)
    toy.server.answer = lambda messages: "a cheque, surely" if "salary" in messages[-1]["content"] else answer(messages)
    toy.study["arms"] = {"answers": ["answers"]}
    report = understudy.run(toy.study | {"task": anchored(toy)}, folder=toy.runs)
    dropped = report["arms"]["answers"]["rows"]["dropped"]["not_a_label"]
    assert 0 < dropped < 30
    step = lessons(toy.runs, "answers")
    assert all("salary" in row.example.input and "cheque" in row.detail for row in step.dropped())
    assert len(list(step.dropped())) == dropped


@pytest.mark.slow
def test_a_changed_study_says_so_and_makes_only_what_changed(toy: Toy):
    notes: list[str] = []

    class Watch:
        def note(self, text: str) -> None:
            notes.append(text)

        def step(self, name: str, done: int, total: int | None, asking: object = None) -> None: ...

    understudy.run(toy.path, folder=toy.runs, changes=["seeds=[0]"])
    kept = {path: path.stat().st_mtime_ns for path in toy.runs.glob("arms/*/seed-0/scores.json")}
    asked = toy.server.requests
    understudy.run(toy.path, folder=toy.runs, changes=["arms.few={chain: [gold], student: {steps: 2}}"], watch=Watch())
    assert notes == [
        "changed since the last run: seeds: [0] -> [0, 1]",
        "changed since the last run: arms.few.chain: not set -> [gold]",
        "changed since the last run: arms.few.student.steps: not set -> 2",
    ]
    assert toy.server.requests == asked
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    understudy.run(toy.path, folder=toy.runs, changes=["student.steps=2", "seeds=[0]"])
    assert {path: path.stat().st_mtime_ns for path in kept} != kept


@pytest.mark.slow
def test_other_metrics_are_scored_anew_without_training(toy: Toy):
    toy.study["arms"] = {"gold": ["gold"]}
    toy.save()
    understudy.run(toy.path, folder=toy.runs)
    model = toy.runs / "arms" / "gold" / "seed-0" / "model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    understudy.run(toy.path, folder=toy.runs, changes=["task.metrics=[micro_f1]", "student.checkpoint_every_s=1"])
    scores = orjson.loads((model.parents[1] / "scores.json").read_bytes())
    assert set(scores["metrics"]) == {"micro_f1"}
    assert model.stat().st_mtime_ns == before
    (model.parents[1] / "predictions.parquet").unlink()
    understudy.run(toy.path, folder=toy.runs)
    assert (model.parents[1] / "predictions.parquet").exists()


def test_a_test_row_without_an_answer_is_found_before_anything_is_asked(toy: Toy):
    write_jsonl(toy.folder / "test.jsonl", [*rows(3, seed=3), {"text": "what is this", "topic": None}])
    with pytest.raises(understudy.UnderstudyError, match=r"test\.jsonl:4: .*a test row needs an answer"):
        understudy.run(toy.path, folder=toy.runs)
    assert toy.server.requests == 0


def test_a_split_of_which_nothing_is_left_is_said_so(toy: Toy):
    write_jsonl(toy.folder / "train.jsonl", rows(24, seed=3))
    with pytest.raises(understudy.UnderstudyError, match=r"task.train: every row .* is dropped: 24 in_test_split"):
        understudy.run(toy.path, folder=toy.runs)
    assert toy.server.requests == 0


@pytest.mark.slow
def test_a_base_that_is_no_model_costs_nothing_and_leaves_the_record_alone(toy: Toy):
    understudy.run(toy.path, folder=toy.runs, changes=["arms={gold: [gold]}"])
    before = (toy.runs / "study.yaml").read_bytes()
    with pytest.raises(understudy.UnderstudyError, match="there is no folder"):
        understudy.run(toy.path, folder=toy.runs, changes=["student.base=/nowhere/at/all"])
    assert (toy.runs / "study.yaml").read_bytes() == before
    assert toy.server.requests == 0


@pytest.mark.slow
def test_another_test_split_is_refused_and_nothing_is_overwritten(toy: Toy):
    toy.study["arms"] = {"gold": ["gold"]}
    toy.save()
    understudy.run(toy.path, folder=toy.runs)
    before = (toy.runs / "study.yaml").read_bytes(), (toy.runs / "report.json").read_bytes()
    write_jsonl(toy.folder / "test.jsonl", rows(20, seed=4))
    with pytest.raises(WorkspaceError, match="the test split has changed"):
        understudy.run(toy.path, folder=toy.runs, changes=["seeds=[5]"])
    assert ((toy.runs / "study.yaml").read_bytes(), (toy.runs / "report.json").read_bytes()) == before


@pytest.mark.slow
def test_arms_can_be_made_equal_in_several_ways(toy: Toy):
    toy.study["seeds"] = [0]
    toy.study["equal"] = ["steps", "tokens", "words", "teacher_tokens"]
    toy.save()
    arms = understudy.run(toy.path, folder=toy.runs)["arms"]
    assert list(arms) == [f"{arm}@{entry}" for entry in toy.study["equal"] for arm in ("gold", "answers", "both")]
    tokens = {arms[f"{arm}@tokens"]["student"]["tokens"] for arm in ("gold", "answers", "both")}
    assert max(tokens) - min(tokens) <= 32 * 16  # the last batch is not cut
    words = [sum(len(row.input.split()) + 1 for row in lessons(toy.runs, f"{arm}@words")) for arm in ("gold", "both")]
    assert words[1] <= words[0]
    cut = arms["both@teacher_tokens"]["rows"]["dropped"]
    assert cut["over_equal_teacher_tokens"] > 0
    assert arms["answers@teacher_tokens"]["rows"]["dropped"] == {}


@pytest.mark.slow
def test_equal_money_goes_by_what_replies_cost_not_by_their_tokens(toy: Toy):
    cheap = {"teacher": {"name": "cheap", "price": {"input": 1.0, "output": 1.0}}}
    dear = {"teacher": {"name": "dear", "price": {"input": 9.0, "output": 9.0}}}
    toy.study["arms"] = {"cheap": {"chain": ["answers"], **cheap}, "dear": {"chain": ["answers"], **dear}}
    toy.study["seeds"], toy.study["equal"] = [0], ["usd"]
    toy.save()
    arms = understudy.run(toy.path, folder=toy.runs)["arms"]
    assert arms["cheap"]["training_rows"] == 12 + 30
    assert arms["dear"]["training_rows"] == 12 + 30 // 9
    assert arms["dear"]["teacher"]["requests"] == 30 // 9
    assert arms["dear"]["teacher"]["usd"] == pytest.approx(30 // 9 * (10 + 5) * 9 / 1e6)


def test_the_budget_of_a_killed_run_counts(toy: Toy):
    toy.runs.mkdir(parents=True)
    (toy.runs / "spent.json").write_text('{"usd": 0.0, "tokens": 0, "requests": 7}')  # as a kill leaves it
    with pytest.raises(understudy.UnderstudyError, match=r"budget.requests: 10 of 10 is spent"):
        understudy.run(toy.path, folder=toy.runs, changes=["budget.requests=10", "arms={answers: [answers]}"])
    assert toy.server.requests == 3


@pytest.mark.slow
def test_a_limit_holds_for_arms_that_bring_their_own_rows(toy: Toy, tmp_path: Path):
    own = "arms={gold: [gold], own: {chain: [gold], task: {train: {path: more-gold.jsonl, limit: 20}}}}"
    write_jsonl(toy.folder / "more-gold.jsonl", rows(25, seed=7))
    report = understudy.run(toy.path, folder=toy.runs, changes=[own, "seeds=[0]"], limit=6)
    assert [arm["training_rows"] for arm in report["arms"].values()] == [6, 6]


def test_bad_input_of_one_arm_is_found_before_another_has_asked(toy: Toy):
    lost = "arms.lost={chain: [gold], task: {train: {path: nowhere.jsonl}}}"
    with pytest.raises(understudy.UnderstudyError, match=r"nowhere\.jsonl"):
        understudy.run(toy.path, folder=toy.runs, changes=[lost])
    assert toy.server.requests == 0


@pytest.mark.slow
def test_rows_that_were_not_answered_for_a_passing_reason_are_asked_for_by_the_next_run(toy: Toy):
    toy.server.refuse = {"salary": 500}
    changes = ["arms={answers: [answers]}", "seeds=[0]", "teacher.retries=0"]
    first = understudy.run(toy.path, folder=toy.runs, changes=changes)
    lost = first["arms"]["answers"]["rows"]["dropped"]["server_error"]
    assert any("run again to ask for them" in note for note in first["notes"])
    toy.server.refuse = {}
    asked = toy.server.requests
    second = understudy.run(toy.path, folder=toy.runs, changes=changes)
    assert toy.server.requests - asked == lost
    assert second["arms"]["answers"]["training_rows"] == 42
    assert second["arms"]["answers"]["rows"]["dropped"] == {}


def test_a_teacher_that_only_fails_ends_the_run(toy: Toy):
    toy.server.refuse = {"": 503}
    with pytest.raises(understudy.UnderstudyError, match="failed every one of its first requests"):
        understudy.run(toy.path, folder=toy.runs, changes=["arms={answers: [answers]}", "teacher.retries=0"])


def test_weights_that_are_broken_are_found_before_anything_is_asked(toy: Toy):
    broken = toy.folder / "broken"
    shutil.copytree(toy.study["student"]["base"], broken)
    os.truncate(broken / "model.safetensors", 1000)
    with pytest.raises(understudy.UnderstudyError, match="cannot be loaded"):
        understudy.run(toy.path, folder=toy.runs, changes=[f"student.base={broken}"])
    assert toy.server.requests == 0


def test_a_teacher_that_answers_nothing_useful_is_said_so(toy: Toy):
    toy.server.answer = "no idea"
    report = understudy.run(toy.path, folder=toy.runs, changes=["arms={answers: [answers]}", "seeds=[0]"])
    assert (
        "answers: most of what 30 requests of answers brought was dropped: 30 not_a_label of 30 rows."
        in report["notes"]
    )


def test_rows_that_were_never_sent_are_not_what_requests_brought(tmp_path: Path):
    texts = [Example(id=f"d{i}", input="a") for i in range(30)]

    def step(workspace: Workspace, name: str, answered: int) -> Rows:
        made = [row.child("x", replies=("key",)) for row in texts[:6]]
        out = [Dropped(row, "x", "low_score") for row in made[answered:]]
        never = [Dropped(row, "x", "not_drawn") for row in texts[6:]]
        source = workspace.step("source", "source", lambda: texts)
        return workspace.step(name, name, lambda: [*made[:answered], *out, *never], incoming=source)

    with Workspace(tmp_path) as workspace:
        assert mostly_dropped(step(workspace, "good", 5)) == ""
        assert mostly_dropped(step(workspace, "bad", 1)) == "5 low_score of 6 rows."


@pytest.mark.slow
def test_labels_may_be_left_out_and_a_limit_runs_in_a_folder_of_its_own(toy: Toy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(toy.folder)
    del toy.study["task"]["labels"]
    toy.save()
    report = understudy.run("study.yaml", limit=6)
    assert report["arms"]["gold"]["training_rows"] == 6
    assert (toy.folder / "runs" / "toy-limit-6" / "report.json").exists()
    assert not (toy.folder / "runs" / "toy").exists()


@pytest.mark.slow
def test_a_budget_is_a_wall_over_all_runs(toy: Toy):
    limit = ["budget.requests=10", "arms={answers: [answers]}"]
    for _ in range(2):
        with pytest.raises(understudy.UnderstudyError, match=r"budget.requests: 10 of 10 is spent"):
            understudy.run(toy.path, folder=toy.runs, changes=limit)
    assert toy.server.requests == 10
    understudy.run(toy.path, folder=toy.runs, changes=["budget.requests=30", "arms={answers: [answers]}"])
    assert toy.server.requests == 30


@pytest.mark.slow
def test_rehearsing_renders_and_counts_and_sends_nothing(toy: Toy):
    price = ["teacher.price={input: 1.0, output: 2.0}", "teacher.sampling.max_tokens=100"]
    steps = understudy.rehearse(toy.path, prompts=2, changes=price)
    assert [(step.arms, step.recipe, step.requests) for step in steps] == [
        (("answers", "both"), "answers", 30),
        (("both",), "direct", 6),
    ]
    assert steps[0].prompts[0][0]["content"].startswith("What is the message about?")
    assert len(steps[0].prompts) == 2
    total = understudy.estimate(toy.path, changes=price)
    assert (total["requests"], total["completion_tokens"], toy.server.requests) == (36, 3600, 0)
    assert total["usd"] == pytest.approx((total["prompt_tokens"] * 1.0 + 3600 * 2.0) / 1e6)
    assert not toy.runs.exists()
    understudy.run(toy.path, folder=toy.runs, changes=["arms={answers: [answers]}"])
    assert understudy.estimate(toy.path)["in_ledger"] == 30


@pytest.mark.slow
def test_a_row_can_be_followed_back_to_its_prompt_and_its_source(toy: Toy):
    understudy.run(toy.path, folder=toy.runs, changes=["seeds=[0]"])
    made = next(row for row in lessons(toy.runs, "both") if row.id.startswith("direct/"))
    history = understudy.explain(toy.runs, made.id)
    assert history["row"]["input"] == made.input
    (reply,) = history["replies"]
    assert made.input in reply["reply"]
    assert 'whose answer is "' in reply["prompt"][0]["content"]
    assert {parent["origin"]["dataset"] for parent in history["parents"]} == {"toy/train"}
    with pytest.raises(understudy.UnderstudyError, match="no step of this run holds a row with the id 'nobody'"):
        understudy.explain(toy.runs, "nobody")


def test_python_needs_no_yaml(toy: Toy, tmp_path: Path):
    task = understudy.Task(
        instruction="Which topic?",
        kind="classification",
        labels=list(WORDS),
        fields=understudy.Fields(input="text", target="topic"),
    )
    train = list(understudy.load(toy.folder / "train.jsonl", task))
    test = list(understudy.load(toy.folder / "test.jsonl", task))
    trained = understudy.train(toy.study["student"], task, train, tmp_path / "model", seed=0)
    assert trained.steps == 3
    scores = understudy.evaluate(understudy.load_model(tmp_path / "model").predict, task, test)
    assert set(scores) == {"accuracy", "macro_f1"}


def test_a_student_of_an_unknown_kind_is_refused(toy: Toy):
    with pytest.raises(SettingsError, match="Known: classifier"):
        understudy.run(toy.path, changes=["student.kind=parrot"])


def anchored(toy: Toy) -> dict[str, object]:
    """The task with absolute paths, as a notebook would write them."""
    paths = {split: str(toy.folder / toy.study["task"][split]) for split in ("train", "unlabelled", "test")}
    return toy.study["task"] | paths
