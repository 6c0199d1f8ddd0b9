"""One study over the values of a key, against a real endpoint on loopback and a tiny real student."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from test_broken_off import wait_until
from toys import Toy, hear_ctrl_c, rows, write_jsonl

import understudy
from understudy.errors import DataError, SettingsError
from understudy.progress import Silent
from understudy.sweeps import read_values

GOLD = "task.train.limit"


class Notes(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def small(toy: Toy) -> Toy:
    """The toy with two arms, one seed and students of which only the head is trained."""
    toy.study.update({"arms": {"gold": ["gold"], "answers": ["answers"]}, "seeds": [0]})
    toy.study["student"]["steps"] = 0
    toy.save()
    return toy


def command(toy: Toy, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "understudy", "sweep", "study.yaml", *arguments],
        cwd=toy.folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


def called(toy: Toy, *arguments: str) -> tuple[int, str, str]:
    process = command(toy, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("sweep.json", "SWEEP.md", "sweep.svg")}


@pytest.mark.slow
def test_one_command_runs_every_value_and_a_second_does_nothing_again(small: Toy, tmp_path: Path):
    place, watch = tmp_path / "sweep", Notes()
    told = understudy.sweep(small.path, {GOLD: [6, 9, None]}, folder=place, watch=watch)
    assert small.server.requests == 30  # every value asks the same: the ledger is shared
    assert watch.said == [f"run {i} of 3: {GOLD}={value}" for i, value in enumerate((6, 9, "all"), start=1)]
    assert [point["gold_rows"] for point in told["points"]] == [6, 9, 12]
    assert [run["arms"]["answers"]["training_rows"] for run in told["runs"]] == [36, 39, 42]
    for run in told["runs"]:
        report = json.loads((place / run["folder"] / "report.json").read_bytes())
        assert run["arms"]["gold"]["metrics"] == report["arms"]["gold"]["metrics"]
        assert run["comparisons"] == report["comparisons"]
        assert "label_saving" in told["points"][0]["arms"]["answers"]
    assert orjson.loads((place / "sweep.json").read_bytes()) == told
    assert told["study"]["command"].startswith(f"understudy sweep {small.path} task.train.limit=6,9,null --folder")
    before = files(place), {path: path.stat().st_mtime_ns for path in place.rglob("model.safetensors")}
    understudy.sweep(small.path, {GOLD: [6, 9, "all"]}, folder=place)
    assert (files(place), {path: path.stat().st_mtime_ns for path in place.rglob("model.safetensors")}) == before
    assert small.server.requests == 30


@pytest.mark.slow
def test_several_keys_make_a_grid_with_the_first_key_as_axis(small: Toy, tmp_path: Path):
    small.study["arms"] = {"gold": ["gold"]}
    grid = {"task.train.sample": [6, 9], "task.train.seed": [0, 1]}
    told = understudy.sweep(small.study | {"task": anchored(small)}, grid, folder=tmp_path / "grid")
    assert [run["folder"] for run in told["runs"]] == [
        "task.train.sample=6,task.train.seed=0",
        "task.train.sample=6,task.train.seed=1",
        "task.train.sample=9,task.train.seed=0",
        "task.train.sample=9,task.train.seed=1",
    ]
    first, second = (run["arms"]["gold"]["metrics"]["accuracy"]["mean"] for run in told["runs"][:2])
    point = told["points"][0]["arms"]["gold"]["metrics"]["accuracy"]
    assert point == {"mean": round((first + second) / 2, 6), "per_run": [first, second]}


def anchored(toy: Toy) -> dict[str, Any]:
    """The task with full paths, for a study that is no file."""
    return toy.study["task"] | {
        key: str(toy.folder / toy.study["task"][key]) for key in ("train", "unlabelled", "test")
    }


@pytest.mark.slow
def test_a_run_that_fails_leaves_the_others_and_the_same_command_goes_on(small: Toy, tmp_path: Path):
    place, values = tmp_path / "sweep", {"task.train.path": ["train.jsonl", "late.jsonl", "test.jsonl"]}
    small.study["arms"] = {"gold": ["gold"]}
    small.save()
    with pytest.raises(understudy.UnderstudyError, match=r"2 of 3 runs failed; the report has the others.*late\.jsonl"):
        understudy.sweep(small.path, values, folder=place)
    told = orjson.loads((place / "sweep.json").read_bytes())
    assert [run["texts"]["task.train.path"] for run in told["runs"]] == ["train.jsonl"]
    assert "late.jsonl failed, and is not shown" in (place / "SWEEP.md").read_text()
    model = next(place.rglob("model.safetensors"))
    before = model.stat().st_mtime_ns
    write_jsonl(small.folder / "late.jsonl", rows(9, seed=8))
    values["task.train.path"].pop()  # the rows of the test split are never learnt from
    told = understudy.sweep(small.path, values, folder=place)
    assert (len(told["runs"]), told["failed"], model.stat().st_mtime_ns) == (2, [], before)


@pytest.mark.slow
def test_one_budget_is_for_all_runs_together(small: Toy, tmp_path: Path):
    small.study.update({"arms": {"answers": ["answers"]}, "budget": {"requests": 32}})
    small.save()
    with pytest.raises(understudy.UnderstudyError, match="1 of 2 runs failed") as failed:
        understudy.sweep(small.path, {"task.instruction": ["Which topic?", "What is it?"]}, folder=tmp_path / "sweep")
    assert failed.value.exit_code == 1
    assert small.server.requests <= 32


def test_without_matplotlib_there_is_a_report_and_a_line_that_says_what_to_install(
    small: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small.study["arms"] = {"gold": ["gold"]}
    small.save()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.svg").write_text("an earlier one")
    watch = Notes()
    told = understudy.sweep(small.path, {GOLD: [6]}, folder=tmp_path / "sweep", watch=watch)
    assert "no picture: the picture needs matplotlib: pip install 'understudy[pictures]'" in watch.said[-1]
    assert orjson.loads((tmp_path / "sweep" / "sweep.json").read_bytes()) == told
    assert "sweep.svg" not in (tmp_path / "sweep" / "SWEEP.md").read_text()
    assert not (tmp_path / "sweep" / "sweep.svg").exists()


REFUSED: dict[str, tuple[dict[str, list[Any]], str]] = {
    "unknown key": (
        {"task.trian.limit": [5]},
        r"task\.trian\.limit=5: .*task\.trian: unknown key. Did you mean 'train'",
    ),
    "a later value": ({"student.steps": [0, "many"]}, r"student\.steps=many: .*student\.steps: .*got 'many'"),
    "no value": ({GOLD: []}, "task.train.limit: a sweep needs at least one value"),
    "no key": ({}, "a sweep needs a key and its values"),
    "twice": ({GOLD: [5, "all", None]}, "the value 'all' stands twice"),
    "no YAML": ({GOLD: [Path("x")]}, "a value is a text, a number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_combination_is_said_before_anything_is_run(small: Toy, tmp_path: Path, case: str):
    values, line = REFUSED[case]
    with pytest.raises(SettingsError, match=line):
        understudy.sweep(small.path, values, folder=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()
    assert small.server.requests == 0


def test_a_train_file_that_is_not_there_is_said_before_anything_is_run_where_labels_come_from_it(small: Toy):
    del small.study["task"]["labels"]
    small.save()
    with pytest.raises(DataError, match=r"task\.train\.path=none\.jsonl: .*none\.jsonl"):
        understudy.sweep(small.path, {"task.train.path": ["train.jsonl", "none.jsonl"]})


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["task.train.limit=25,125,all"], {"task.train.limit": [25, 125, "all"]}),
        (["student.lora=null,{r: 8}"], {"student.lora": [None, {"r": 8}]}),
        (["seeds=[0],[0,1]", "x.y=a/b, c=d"], {"seeds": [[0], [0, 1]], "x.y": ["a/b", "c=d"]}),
        (["teacher.base_url=http://a:1/v1,http://b:2/v1"], {"teacher.base_url": ["http://a:1/v1", "http://b:2/v1"]}),
    ],
)
def test_values_are_read_as_yaml(texts: list[str], values: dict[str, list[Any]]):
    assert read_values(texts) == values


@pytest.mark.parametrize("text", ["task.train.limit", "task.train.limit=", "=5", "x=[1,2", "x={a", "x=1,,2"])
def test_values_that_cannot_be_read_are_named(text: str):
    with pytest.raises(SettingsError, match="write it as KEY=V1,V2|the values are no YAML list"):
        read_values([text])


def test_a_key_that_stands_twice_is_refused():
    with pytest.raises(SettingsError, match=r"'a.b' stands twice; give all of its values at once"):
        read_values(["a.b=1", "a.b=2"])


@pytest.mark.slow
def test_a_password_in_a_value_is_never_written(small: Toy, tmp_path: Path):
    secret = "planted-3f9a8b7c"
    small.study["arms"] = {"gold": ["gold"]}
    small.save()
    watch = Notes()
    urls = [f"http://me:{secret}@a.example/v1?key={secret}", f"http://you:{secret}@b.example/v1"]
    teachers = [{"backend": "openai", "model": "tiny", "base_url": url} for url in urls]
    for key, values in {"teacher.base_url": urls, "teacher": teachers}.items():
        understudy.sweep(small.path, {key: values}, folder=tmp_path / "sweep", watch=watch)
    assert secret not in str(watch.said)
    for path in (tmp_path / "sweep").rglob("*"):
        assert secret not in path.name
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_killed_between_two_values_the_same_command_goes_on(small: Toy, tmp_path: Path):
    small.server.latency_s = 0.02
    small.study["arms"] = {"answers": ["answers"]}
    small.save()
    arguments = ("task.instruction=Name the topic,Say what it is", "--folder", "sweep")
    place = small.folder / "sweep"
    process = command(small, *arguments)
    wait_until(lambda: small.server.requests >= 40, process)  # 30 of the first value
    process.kill()
    process.wait()
    first = next(place.rglob("model.safetensors"))
    before = first.stat().st_mtime_ns
    assert not (place / "sweep.json").exists()
    code, out, err = called(small, *arguments)
    assert code == 0, err
    assert "run 2 of 2: task.instruction=Say what it is" in err
    assert "toy: accuracy over task.instruction" in out
    assert "The whole report: sweep/SWEEP.md" in out
    assert small.server.doubles <= 4  # what was in flight
    assert first.stat().st_mtime_ns == before
    unbroken = understudy.sweep(small.path, read_values(arguments[:1]), folder=tmp_path / "unbroken")
    told = orjson.loads((place / "sweep.json").read_bytes())
    assert told["points"] == unbroken["points"]
    assert (tmp_path / "unbroken" / "sweep.svg").read_bytes() == (place / "sweep.svg").read_bytes()


@pytest.mark.slow
def test_the_command_prints_json_and_names_what_is_wrong(small: Toy):
    small.study["arms"] = {"gold": ["gold"]}
    small.save()
    code, out, err = called(small, "task.train.limit=6,all", "--json", "--limit", "9")
    assert code == 0, err
    assert [point["gold_rows"] for point in json.loads(out)["points"]] == [6, 9]
    assert (small.folder / "runs" / "toy-sweep-limit-9" / "task.train.limit=all" / "report.json").exists()
    code, out, err = called(small, "task.trian.limit=6")
    assert (code, out) == (2, "")
    assert "error: task.trian.limit=6: study.yaml: task.trian: unknown key. Did you mean 'train'" in err
