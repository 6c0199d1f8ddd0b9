"""A study's replies handed on: out to a file, and elsewhere the same run for nothing, without a key or an endpoint."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from test_spine import training_files
from toys import Toy, teach
from typer.testing import CliRunner

import understudy
from understudy.cli import app
from understudy.errors import DataError, SettingsError, TeacherError
from understudy.provenance import tell
from understudy.workspace import Rows

pytestmark = pytest.mark.slow  # many small waits

SECRET = "sk-planted-3f9a8b7c6d5e"

Away = Callable[[], None]


@pytest.fixture
def away(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Away:
    """Goes to where there is another ledger, no key and no endpoint."""

    def go() -> None:
        monkeypatch.setenv("UNDERSTUDY_CACHE_DIR", str(tmp_path / "another cache"))
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        toy.server.stop()

    return go


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines(keepends=True)


def command(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    """Exit code, stdout and stderr; errors of ours pass through."""
    done = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin, standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def same_elsewhere(folder: Path) -> dict[str, Any]:
    """What a run folder holds, without times, places, and who paid when."""
    content: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith((".lock", "events.jsonl", "spent.json", "REPORT", "report.html")):
            continue
        content[name] = path.read_bytes()
        if path.name == "done.json":
            manifest = orjson.loads(content[name])
            for key in ("requests", "from_ledger", "attempts", "spent_usd"):
                manifest.get("teacher", {}).pop(key, None)
            content[name] = manifest
        elif path.name == "scores.json":
            scores = orjson.loads(content[name])
            scores["students"][""].pop("seconds")
            content[name] = scores
        elif path.name == "training.json":
            training = orjson.loads(content[name])
            training["trained"].pop("seconds")
            content[name] = training
        elif path.name == "report.json":
            report = orjson.loads(content[name])
            report["study"].pop("command")
            for arm in report["arms"].values():
                del arm["teacher"]["from_ledger"], arm["student"]["seconds"]
            content[name] = report
    return content


def test_a_run_is_made_again_elsewhere_from_its_cassette(toy: Toy, tmp_path: Path, away: Away):
    toy.study["seeds"] = [0]
    toy.server.answer = lambda messages: "parrot" if "pin" in messages[-1]["content"] else teach(messages)
    toy.save()
    report = understudy.run(toy.path, folder=toy.runs)
    assert report["arms"]["answers"]["rows"]["dropped"], "replies behind dropped rows are in it too"
    file = tmp_path / "toy.jsonl"
    code, out, err = command("cassette", "export", toy.runs, file)
    assert (code, err) == (0, "")
    assert out == f"36 replies: {file}\n"

    away()
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(TeacherError, match="lacks 30 of the 30 replies that answers needs"):
        understudy.run(toy.path, folder=elsewhere, offline=True)
    assert command("cassette", "import", file)[1] == f"36 replies, 36 of them new: {file}\n"
    again = understudy.run(toy.path, folder=elsewhere, offline=True)
    assert training_files(elsewhere) == training_files(toy.runs)
    assert same_elsewhere(elsewhere) == same_elsewhere(toy.runs)
    assert again["arms"]["answers"]["teacher"]["from_ledger"] == 30
    assert again["study"]["command"].endswith("--offline")
    assert understudy.import_cassette(file).new == 0
    understudy.export_cassette(elsewhere, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_requests_that_were_refused_are_in_the_cassette_too(toy: Toy, tmp_path: Path, away: Away):
    toy.study["seeds"] = [0]
    toy.study["arms"] = {"answers": ["answers"]}
    toy.server.refuse = {"pin": 400}
    toy.save()
    report = understudy.run(toy.path, folder=toy.runs)
    refused = report["arms"]["answers"]["rows"]["dropped"]["bad_request"]
    assert 0 < refused < 30
    file = tmp_path / "toy.jsonl"
    counted = f"{30 - refused} replies, {refused} refused requests: {file}\n"
    assert command("cassette", "export", toy.runs, file)[1] == counted
    dropped = [row for path in toy.runs.glob("steps/*") for row in Rows(path).dropped()]
    id = next(row.example.id for row in dropped if row.reason == "bad_request")
    assert "refused by tiny: bad_request" in tell(understudy.explain(toy.runs, id))
    assert f"{refused} requests were refused for good" in command("ledger", "info")[1]
    assert json.loads(command("ledger", "info", "--json")[1])["failures"] == 0

    away()
    elsewhere = tmp_path / "elsewhere"
    assert f", {refused} refused requests: {file}\n" in command("cassette", "import", file)[1]
    again = understudy.run(toy.path, folder=elsewhere, offline=True)
    assert same_elsewhere(elsewhere) == same_elsewhere(toy.runs)
    assert again["arms"]["answers"]["rows"] == report["arms"]["answers"]["rows"]
    understudy.export_cassette(elsewhere, tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_what_a_cassette_lacks_is_counted_over_all_arms(toy: Toy, tmp_path: Path, away: Away):
    toy.study["arms"] = {
        "answers": ["answers"],
        "both": ["answers", {"direct": {"rows": 6, "batch": 2}}],
        "direct": [{"direct": {"rows": 6, "batch": 2}}],
    }
    toy.study["seeds"] = [0]
    toy.save()
    understudy.run(toy.path, folder=toy.runs)
    file = tmp_path / "toy.jsonl"
    understudy.export_cassette(toy.runs, file)
    header, *replies = lines(file)
    written = [line for line in replies if "Write 2 new inputs" in line]
    answers = [line for line in replies if line not in written]
    assert (len(written), len(answers)) == (3, 30)
    file.write_text("".join([header, *answers[3:], *written[1:]]))
    away()
    found = understudy.import_cassette(file)
    assert (found.promised, found.replies) == (33, 29)
    with pytest.raises(TeacherError) as caught:
        understudy.run(toy.path, folder=tmp_path / "elsewhere", offline=True)
    assert caught.value.exit_code == 2
    assert "3 of the 30 replies that answers needs (arm answers, both)" in str(caught.value)
    assert "1 of the 3 replies that direct needs (arm direct)" in str(caught.value)
    assert "understudy cassette import FILE" in str(caught.value)
    file.write_text("".join([header, *replies]))
    understudy.import_cassette(file)
    understudy.run(toy.path, folder=tmp_path / "elsewhere", offline=True)
    assert training_files(tmp_path / "elsewhere") == training_files(toy.runs)


def test_requests_are_answered_by_somebody_else_and_the_report_says_who(toy: Toy, tmp_path: Path, away: Away):
    toy.study["seeds"] = [0]
    toy.study["budget"] = {"requests": 0}
    toy.save()
    away()
    asked, answered = tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"
    _, out, err = command("cassette", "export", toy.path, asked, "--requests")
    assert out == f"36 requests: {asked}\n"
    assert "both: direct: may ask about rows that these replies make" in err

    with answered.open("w") as file:
        for line in map(json.loads, lines(asked)):
            text = teach(line["body"]["messages"])
            file.write(json.dumps({"custom_id": line["custom_id"], "reply": text}) + "\n")
    with pytest.raises(SettingsError, match="--written-by"):
        command("cassette", "import", answered, "--requests", asked)
    signed = ("--requests", asked, "--written-by", "A Large Model, 2026-11-20")
    assert command("cassette", "import", answered, *signed)[1] == f"36 replies, 36 of them new: {answered}\n"
    _, out, err = command("cassette", "export", toy.path, asked, "--requests")
    assert (out, err) == (f"0 requests: {asked}\n", "")

    report = understudy.run(toy.path, folder=toy.runs, offline=True)
    used = report["arms"]["answers"]["teacher"]
    assert (used["prompt_tokens"], used["completion_tokens"], used["usd"]) == (None, None, 0.0)
    assert used["written"] == {"A Large Model, 2026-11-20": 30}
    said = "answers, both: replies written by A Large Model, 2026-11-20, outside any endpoint"
    assert said in (toy.runs / "REPORT.md").read_text()
    understudy.export_cassette(toy.runs, tmp_path / "toy.jsonl")
    assert json.loads(lines(tmp_path / "toy.jsonl")[0])["written_by"] == ["A Large Model, 2026-11-20"]


def test_a_planted_key_is_nowhere_in_what_is_handed_on(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: Away
):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("HIDDEN", f"{SECRET}-too")
    toy.study["arms"], toy.study["seeds"] = {"answers": ["answers"]}, [0]
    url = toy.server.base_url.replace("http://", "http://me:${HIDDEN}@")
    toy.study["teacher"]["base_url"] = f"{url}?key={SECRET}-three"
    toy.server.echo_headers, toy.server.faults = True, [500]
    toy.server.answer = lambda messages: f"{toy.server.headers[-1]}" if "pin" in str(messages) else teach(messages)
    toy.save()
    monkeypatch.chdir(toy.folder)
    understudy.run(toy.path)
    in_header = base64.b64encode(f"me:{SECRET}-too".encode()).decode()
    assert in_header in str(toy.server.headers), "the plant must be there to be found"
    for study in (toy.path, toy.runs):
        understudy.export_cassette(study, tmp_path / "toy.jsonl")
        assert "'Authorization': '" in (tmp_path / "toy.jsonl").read_text()
        assert not any(secret in (tmp_path / "toy.jsonl").read_text() for secret in (SECRET, in_header))
    understudy.export_requests(toy.path, tmp_path / "requests.jsonl", changes=["task.instruction=Which topic?"])
    assert (tmp_path / "requests.jsonl").stat().st_size > 1000
    assert SECRET not in (tmp_path / "requests.jsonl").read_text()
    away()
    monkeypatch.setenv("HIDDEN", "other")
    understudy.import_cassette(tmp_path / "toy.jsonl")
    understudy.run(toy.path, folder=tmp_path / "elsewhere", offline=True)
    assert training_files(tmp_path / "elsewhere") == training_files(toy.runs)


def test_runs_that_have_no_cassette_are_told_so(toy: Toy, tmp_path: Path):
    toy.study["arms"], toy.study["seeds"] = {"gold": ["gold"]}, [0]
    toy.save()
    understudy.run(toy.path, folder=toy.runs)
    with pytest.raises(DataError, match="no row of this run came of a teacher's reply"):
        understudy.export_cassette(toy.runs, tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="report.json"):
        understudy.export_cassette(tmp_path, tmp_path / "x.jsonl")
    with pytest.raises(SettingsError, match="name the study file"):
        command("cassette", "export", toy.runs, tmp_path / "x.jsonl", "--requests")
    with pytest.raises(SettingsError, match="--requests"):
        understudy.import_cassette(tmp_path / "x.jsonl", written_by="A, 2026-11-20")


def test_the_ledger_is_looked_at_and_pruned(toy: Toy):
    toy.study["arms"], toy.study["seeds"] = {"answers": ["answers"]}, [0]
    toy.study["teacher"]["price"] = {"input": 1000.0, "output": 1000.0}
    toy.save()
    understudy.run(toy.path, folder=toy.runs)
    told = json.loads(command("ledger", "info", "--json")[1])
    assert (told["replies"], told["usd"], told["teachers"]) == (30, pytest.approx(0.45), {"tiny": 30})
    assert "30 replies, 0.4500 usd\n  tiny: 30\n" in command("ledger", "info")[1]
    assert command("ledger", "prune", "--before", "30d")[1] == "nothing to forget\n"
    with pytest.raises(SettingsError, match="30 replies, which cost 0.4500 usd; add --yes"):
        command("ledger", "prune", "--teacher", "tiny")
    with pytest.raises(SettingsError, match="Did you mean 'tiny'"):
        command("ledger", "prune", "--teacher", "tinny")
    for wrong in ([], ["--before", "soon"]):
        with pytest.raises(SettingsError, match="--before"):
            command("ledger", "prune", *wrong)
    assert command("ledger", "prune", "--before", "2100-01-01", "--yes")[1] == (
        "forgot 30 replies, which cost 0.4500 usd\n"
    )
    assert json.loads(command("ledger", "info", "--json")[1])["replies"] == 0
    assert os.environ["UNDERSTUDY_CACHE_DIR"] in told["path"]
