"""The commands as a person types them: what they print, where, and with which exit code."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import zlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from toys import Toy, rows, write_jsonl

pytestmark = pytest.mark.slow  # processes of their own

SECRET = "sk-planted-3f9a8b7c6d5e"


def understudy(*arguments: str, folder: Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "understudy", *arguments],
        cwd=folder,
        env=os.environ | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_a_day_with_the_commands(toy: Toy):
    toy.study["seeds"] = [0]
    toy.save()
    look = understudy("run", "study.yaml", "--dry-run", "1", folder=toy.folder)
    assert (look.returncode, toy.server.requests) == (0, 0)
    assert "=== answers, both: answers, prompt 1 of 30" in look.stdout
    assert "What is the message about?" in look.stdout

    told = understudy("estimate", "study.yaml", folder=toy.folder)
    assert "all: 36 requests, 0 of them in the ledger" in told.stdout

    done = understudy("run", "study.yaml", folder=toy.folder)
    assert done.returncode == 0, done.stderr
    assert "answers" in done.stdout
    assert str(Path("runs") / "toy" / "REPORT.md") in done.stdout
    assert toy.server.requests == 33

    as_json = understudy("report", "runs/toy", "--json", folder=toy.folder)
    assert json.loads(as_json.stdout)["study"]["name"] == "toy"

    model = "runs/toy/arms/answers/seed-0/model"
    from_arguments = understudy("predict", model, "card pin stolen", "salary pending", folder=toy.folder)
    from_stdin = understudy("predict", model, folder=toy.folder, stdin="card pin stolen\nsalary pending\n")
    assert from_arguments.stdout == from_stdin.stdout
    assert len(from_stdin.stdout.splitlines()) == 2

    row = "toy/train:0-"
    id = next(row for row in parquet_ids(toy.runs) if row.startswith("toy/train:0-"))
    explained = understudy("explain", "runs/toy", id, folder=toy.folder)
    assert "source: toy/train, row 0, read for train" in explained.stdout
    assert row in explained.stdout


def parquet_ids(folder: Path) -> list[str]:
    return [id for part in folder.glob("steps/*/part-*.parquet") for id in pq.read_table(part)["id"].to_pylist()]


@pytest.mark.slow
def test_recipes_and_doctor_are_for_people_and_machines(toy: Toy):
    listed = understudy("recipes", folder=toy.folder).stdout
    assert "answers: the teacher's answers to the unlabelled rows" in listed
    assert "shots = 0" in listed
    named = [recipe["name"] for recipe in json.loads(understudy("recipes", "--json", folder=toy.folder).stdout)]
    assert named == ["gold", "answers", "direct", "teacherlm", "rebase", "tuned_teacher", "as_es", "raw", "cothought"]
    examined = understudy("doctor", "study.yaml", folder=toy.folder)
    assert examined.returncode == 0, examined.stdout + examined.stderr
    assert "ok       task.test" in examined.stdout
    toy.server.stop()
    assert understudy("doctor", "study.yaml", folder=toy.folder).returncode == 2


@pytest.mark.slow
def test_no_secret_is_ever_written(toy: Toy):
    """The key from the environment and a password in the URL; the server echoes both in its errors."""
    toy.study["seeds"] = [0]
    toy.study["arms"] = {"answers": ["answers"]}
    toy.server.echo_headers = True
    toy.server.refuse = {"password": 400}
    toy.save()
    environment = {"OPENAI_API_KEY": SECRET, "PASSWORD": f"{SECRET}-too"}
    done = toy.call(**environment)
    assert done.returncode == 0, done.stderr
    assert SECRET in str(toy.server.headers)
    dropped = json.loads((toy.runs / "report.json").read_bytes())["arms"]["answers"]["rows"]["dropped"]
    assert dropped["bad_request"] > 0
    toy.study["teacher"]["base_url"] = toy.server.base_url.replace("http://", "http://me:${PASSWORD}@")
    toy.server.refuse = {"": 401}
    toy.save()
    refused = toy.call("--set", "task.instruction=Which topic?", **environment)
    assert refused.returncode == 2
    shown = done.stdout + done.stderr + refused.stdout + refused.stderr
    assert SECRET not in shown
    literal = toy.server.base_url.replace("http://", f"http://me:{SECRET}@") + f"?key={SECRET}"
    toy.call("--set", f"teacher.base_url={literal}", "--set", "task.instruction=Which?")
    toy.server.refuse = {"password": 400}
    again = toy.call("--set", f"arms.x={{chain: [gold], teacher: {{base_url: '{literal}'}}}}", **environment)
    assert again.returncode == 0, again.stderr
    assert "arms.x" in json.loads((toy.runs / "report.json").read_bytes())["study"]["command"]
    cache = Path(os.environ["UNDERSTUDY_CACHE_DIR"])
    files = [path for folder in (toy.runs, cache) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    for path in toy.runs.rglob("*.parquet"):  # compressed
        assert SECRET not in str(pq.read_table(path).to_pylist()), path
    assert SECRET not in ledger_text(cache / "ledger.sqlite3")


def ledger_text(path: Path) -> str:
    """Everything in the ledger, unpacked."""
    with closing(sqlite3.connect(path)) as ledger:
        cells = [cell for row in ledger.execute("SELECT * FROM replies") for cell in row]
    assert cells
    return " ".join(str(zlib.decompress(cell) if is_packed(cell) else cell) for cell in cells)


def is_packed(cell: object) -> bool:
    return isinstance(cell, bytes) and cell[:1] == b"x"


def latin(path: Path) -> None:
    path.write_bytes(b'{"text": "caf\xe9", "topic": "card"}\n')


BAD = {
    "unknown key": ("--set", "task.instrction=x", "task.instrction: unknown key. Did you mean 'instruction'?"),
    "unknown recipe": (
        "--set",
        "arms.x=[gould]",
        "unknown recipe 'gould'. Did you mean 'gold'? Known: answers, as_es, cothought, direct, gold, raw,",
    ),
    "unknown student": ("--set", "student.kind=parrot", "there is no student 'parrot'. Known: classifier"),
    "unknown teacher": ("--set", "teacher.backend=opnai", "'opnai' is unknown. Did you mean 'openai'?"),
    "needs not met": ("--set", "task.unlabelled=null", "recipe 'answers' needs 'unlabelled'; add task.unlabelled"),
    "unset variable": ("--set", "task.train=${NOWHERE}/x.jsonl", "the environment variable NOWHERE is not set"),
    "missing key": ("--set", "teacher.base_url=https://api.example.com/v1", "OPENAI_API_KEY"),
    "endpoint refused": ("--set", "teacher.base_url=http://127.0.0.1:9/v1", "127.0.0.1:9"),
    "missing file": ("--set", "task.train=trian.jsonl", "trian.jsonl"),
    "missing column": ("--set", "task.fields.input=txt", "there is no column 'txt'. Did you mean 'text'?"),
    "label outside": (
        "--set",
        "task.labels=[card, money]",
        "test.jsonl:3: field 'target': 'login' is none of the task's labels",
    ),
    "no model": ("--set", "student.base=./", "no config.json in"),
    "bad option": ("--limit", "0", "--limit"),
    "no such option": ("--fast", "yes", "--fast"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_costs_nothing(toy: Toy, case: str):
    option, value, line = BAD[case]
    check_refused(toy, line, option, value)


BROKEN: dict[str, tuple[Any, str]] = {
    "broken JSON": (lambda path: path.write_text('{"text": "a", "topic": "card"}\n{"text": \n'), "train.jsonl:2"),
    "empty file": (lambda path: path.write_text(""), "train.jsonl"),
    "not UTF-8": (latin, "train.jsonl:1"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_clear_line_and_costs_nothing(toy: Toy, case: str):
    write, line = BROKEN[case]
    write(toy.folder / "train.jsonl")
    check_refused(toy, line)


def check_refused(toy: Toy, line: str, *arguments: str) -> None:
    toy.runs.mkdir(parents=True)
    (toy.runs / "report.json").write_text("{}")
    done = toy.call(*arguments)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert len([said for said in done.stderr.splitlines() if said.startswith("error")]) <= 1
    assert done.stdout == ""
    assert toy.server.requests == 0
    assert (toy.runs / "report.json").read_text() == "{}"


@pytest.mark.slow
def test_an_unknown_run_folder_and_model_are_said_so(toy: Toy):
    report = understudy("report", "runs/none", folder=toy.folder)
    assert (report.returncode, report.stderr.count("\n")) == (2, 1)
    assert "there is no report.json in 'runs/none'" in report.stderr
    (toy.folder / "nothing").mkdir()
    predict = understudy("predict", "nothing", "x", folder=toy.folder)
    assert predict.returncode == 2
    assert "no config.json" in predict.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_the_run_goes_on_later(toy: Toy, tmp_path: Path):
    """A tiny file system, where the machine lets us mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "none", str(small)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small file system")
    try:
        write_jsonl(toy.folder / "train.jsonl", [row | {"more": "x" * 3000} for row in rows(40, seed=5)])
        done = toy.call("--folder", str(small / "run"), "--set", "arms={gold: [gold]}")
        assert done.returncode == 2, done.stderr
        assert "no space left on the disk" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (small / "run" / "report.json").exists()
        subprocess.run(["mount", "-o", "remount,size=100m", str(small)], check=True)
        assert toy.call("--folder", str(small / "run"), "--set", "arms={gold: [gold]}").returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=False)
