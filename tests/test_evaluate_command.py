"""`understudy evaluate`: models on minimal pairs, and a trained student on its study's test split."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from students.tiny import write_causal
from toys import WORDS, rows, write_encoder, write_jsonl
from typer.testing import CliRunner

from understudy.cli import app
from understudy.errors import DataError, SettingsError
from understudy.students import train
from understudy.task import Task

STUDENT = "student.json"
PAIRS = [
    {"sentence_good": f"{who} {verb}s.", "sentence_bad": f"{who} {verb}.", "field": field, "linguistics_term": "verbs",
     "UID": f"{verb}s", "length": len(who)}
    for who in ("Ann", "Robert", "The dog")
    for verb, field in (("run", "syntax"), ("sing", "syntax"), ("think", "syntax/semantics"))
]  # fmt: skip


def command(*arguments: str | Path) -> tuple[str, str]:
    """Stdout and stderr; errors of ours pass through."""
    done = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    assert not done.exit_code
    return done.stdout, done.stderr


def as_json(*arguments: str | Path) -> dict[str, Any]:
    return json.loads(command(*arguments, "--json")[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "pairs.jsonl", PAIRS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_causal("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_causal("gpt2", tmp_path_factory.mktemp("gpt2"))


def test_a_model_on_minimal_pairs(file: Path, model: str):
    out, err = command(model, file)
    assert err == ""
    lines = [" ".join(line.split()) for line in out.splitlines()]
    starts = [
        "all pairs 9 .",
        "all 3 paradigms 9 .",
        "field syntax 6 .",
        "syntax semantics 3 ",
        "linguistics term verbs 9 .",
    ]
    assert [line[: len(start)] for line, start in zip(lines[3:], starts, strict=False)] == starts
    assert out.endswith("- 9 rows, one seed: the interval is over rows\n- scored at fp32 (default)\n")


def test_json_has_every_paradigm_and_the_overall_score(file: Path, model: str):
    told = as_json(model, file)
    assert [*told["groups"]] == ["field", "linguistics_term", "UID"]
    assert {name: one["pairs"] for name, one in told["groups"]["UID"].items()} == {"runs": 3, "sings": 3, "thinks": 3}
    assert told["metrics"]["accuracy"]["mean"] == told["groups"]["linguistics_term"]["verbs"]["mean"]
    assert (told["test_rows"], told["ties"]) == (9, 0)
    assert as_json(model, file, "--limit", "2")["test_rows"] == 2


def test_several_models_are_seeds(file: Path, model: str, other: str):
    both, alone = as_json(model, other, file), [as_json(one, file) for one in (model, other)]
    assert both["models"] == [model, other]
    scores = [one["metrics"]["accuracy"]["mean"] for one in alone]
    assert both["metrics"]["accuracy"]["per_seed"] == scores
    assert both["over_paradigms"]["mean"] == pytest.approx(sum(scores) / 2, abs=1e-5)


def test_groups_by_a_column_of_ones_own(tmp_path: Path, model: str):
    own = [{"ok": row["sentence_good"], "off": row["sentence_bad"], "length": row["length"]} for row in PAIRS]
    file = write_jsonl(tmp_path / "verbs.jsonl", own)
    told = as_json(model, file, "--good", "ok", "--bad", "off", "--by", "length")
    assert {name: one["pairs"] for name, one in told["groups"]["length"].items()} == {"3": 3, "6": 3, "7": 3}
    assert [*told["groups"]["UID"]] == ["verbs"]  # the file's name
    assert "length" in command(model, file, "--good", "ok", "--bad", "off", "--by", "length")[0]


def test_another_precision_is_told_beside(file: Path, model: str):
    found = as_json(model, file, "--compare", "bf16")["compared"]
    assert (found["precision"], found["choices"]) == ("bf16", 9)
    assert found["share"] == pytest.approx(found["changed"] / 9, abs=1e-6)
    assert "- bf16 changes " in command(model, file, "--compare", "bf16")[0]


@pytest.mark.slow
def test_a_student_is_scored_as_its_study_said_unless_an_option_says_otherwise(tmp_path: Path):
    from test_finetuning import write_roberta

    draw = random.Random(0)
    sentences = [" ".join("".join(draw.choices("abcdefgh", k=4)) for _ in range(3)) for _ in range(80)]
    pairs = [
        {"sentence_good": one, "sentence_bad": other} for one, other in zip(sentences, sentences[40:], strict=False)
    ]
    file = write_jsonl(tmp_path / "pairs.jsonl", pairs)
    folder = tmp_path / "model"
    write_roberta(folder)
    assert as_json(folder, file)["scored"][0]["precision"] == "fp32"  # one of the hub's
    by_tokens, by_words = (as_json(folder, file, *more)["over_paradigms"] for more in ((), ("--within-word",)))
    assert by_tokens != by_words
    (folder / "student.json").write_text(json.dumps({"within_word": True, "score_precision": "bf16"}))
    own = as_json(folder, file)
    assert own["scored"] == [
        {"within_word": True, "precision": "bf16", "said_by": dict.fromkeys(["within_word", "precision"], STUDENT)}
    ]
    assert "- scored at bf16 (student.json), within_word (student.json)\n" in command(folder, file)[0]
    other = as_json(folder, file, "--precision", "fp32")
    assert other["over_paradigms"] == by_words
    assert other["scored"][0]["said_by"] == {"within_word": STUDENT, "precision": "option"}
    assert as_json(folder, file, "--precision", "fp32", "--no-within-word")["over_paradigms"] == by_tokens
    with pytest.raises(SettingsError, match="--compare bf16: that is what they are judged at"):
        command(folder, file, "--compare", "bf16")
    (folder / "student.json").write_text("{")
    with pytest.raises(DataError, match=r"student.json' is broken"):
        command(folder, file)


def write_study(folder: Path, **study: Any) -> Path:
    plain = {
        "name": "toy",
        "teacher": {"backend": "openai", "model": "tiny", "base_url": "http://127.0.0.1:9/v1"},
        "arms": {"answers": ["answers"]},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(plain | study))
    return path


@pytest.mark.slow
def test_a_trained_student_on_its_studys_test_split(tmp_path: Path):
    write_jsonl(tmp_path / "train.jsonl", rows(12, seed=1))
    write_jsonl(tmp_path / "test.jsonl", rows(24, seed=3))
    task = {
        "instruction": "What is it about?", "kind": "classification", "labels": [*WORDS],
        "fields": {"input": "text", "target": "topic"}, "train": "train.jsonl", "test": "test.jsonl",
    }  # fmt: skip
    student = {"kind": "classifier", "base": write_encoder(tmp_path / "base"), "steps": 2, "threads": 1}
    study = write_study(tmp_path, task=task, student=student, arms={"gold": ["gold"]})
    asked = Task(instruction="?", kind="classification", labels=[*WORDS])
    lessons = [
        asked.example({"input": row["text"], "target": row["topic"]}, id=row["text"]) for row in rows(12, seed=1)
    ]
    for seed in (0, 1):
        train(student, asked, lessons, tmp_path / f"seed-{seed}", seed=seed)
    told = as_json(tmp_path / "seed-0", tmp_path / "seed-1", study)
    assert [*told["metrics"]] == ["accuracy", "macro_f1"]
    assert len(told["metrics"]["accuracy"]["per_seed"]) == 2
    assert told["metrics"]["accuracy"]["chance"] == pytest.approx(1 / 3, abs=1e-5)
    assert "groups" not in told
    out, _ = command(tmp_path / "seed-0", study, "--limit", "6")
    assert "macro F1" in out
    assert out.endswith("- 6 rows, one seed: the interval is over rows\n")
    with pytest.raises(
        SettingsError, match="--within-word, --precision and --compare go with minimal pairs, not kind c"
    ):
        command(tmp_path / "seed-0", study, "--within-word")


def test_a_study_of_pretraining_leaves_out_words_that_were_not_read(file: Path, tmp_path: Path, model: str):
    write_jsonl(tmp_path / "text.jsonl", [{"text": "Ann runs, they run. Robert and the dog run, too; Ann, sing!"}])
    task = {"kind": "pretraining", "train": "text.jsonl", "unlabelled": "text.jsonl", "test": str(file)}
    student = {"kind": "causal", "base": model, "steps": 1}
    of_text = {"student": student, "arms": {"raw": ["raw"]}}
    study = write_study(tmp_path, task=task | {"pairs": {"known_words": 1}}, **of_text)
    told = as_json(model, study)
    assert (told["test_rows"], told["dropped"]) == (3, {"unknown_word": 6})
    assert [*told["groups"]["UID"]] == ["runs"]
    assert "- 6 pairs are left out" in command(model, study)[0]
    with pytest.raises(SettingsError, match="a study says them in task.pairs"):
        command(model, study, "--by", "field")
    assert as_json(model, write_study(tmp_path, task=task, **of_text))["test_rows"] == 9


def test_a_corpus_has_the_known_words_and_a_limit_leaves_it_alone(file: Path, tmp_path: Path, model: str):
    (tmp_path / "texts").mkdir()
    lines = ["Nothing here.", "Ann runs, they run.", "Robert and the dog run, too; Ann, sing!"]
    write_jsonl(tmp_path / "texts" / "a.jsonl", [{"text": line} for line in lines])
    (tmp_path / "texts" / "b.bin").write_bytes(b"\0")
    task = {"kind": "pretraining", "train": {"corpus": "texts"}, "test": str(file), "pairs": {"known_words": 1}}
    student = {"kind": "causal", "base": model, "steps": 1}
    study = write_study(tmp_path, task=task, student=student, arms={"raw": ["raw"]})
    told = as_json(model, study)
    assert (told["test_rows"], told["dropped"]) == (3, {"unknown_word": 6})
    told = as_json(model, study, "--limit", "4")  # of the pairs: all three texts are read
    assert (told["test_rows"], told["dropped"]) == (2, {"unknown_word": 2})
    task["pairs"] = {"known_words": 9}
    with pytest.raises(DataError, match="every row is dropped"):
        command(model, write_study(tmp_path, task=task, student=student, arms={"raw": ["raw"]}))


def test_wrong_options_are_one_clear_line(file: Path, model: str, tmp_path: Path):
    for arguments, said in {
        ("--precision", "fp16"): "--precision: fp32 or bf16 is expected, got 'fp16'",
        ("--compare", "fp32"): "--compare fp32: that is what they are judged at",
        ("--by", "fields"): r"--by: .* has no column 'fields'. Did you mean 'field'\?",
    }.items():
        with pytest.raises(SettingsError, match=said):
            command(model, file, *arguments)
    for arguments, said in {
        (model, tmp_path / "nothing.jsonl"): "there is no such file",
        (model, file, "--good", "sentence_god"): "no column 'sentence_god'. Did you mean 'sentence_good'",
        (model, file, "--within-word"): "is causal, and hides no words",
        (model, tmp_path / "nowhere", file): "model: there is no folder",
        (tmp_path, file): "no config.json",
    }.items():
        with pytest.raises(DataError, match=said):
            command(*arguments)


@pytest.mark.slow
def test_an_error_is_one_line_and_exit_code_2(file: Path, tmp_path: Path):
    call = [sys.executable, "-m", "understudy", "evaluate", str(tmp_path), str(file)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
