"""Killed or stopped at any moment, the same command goes on, pays for nothing twice and ends with the same files."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_spine import training_files
from toys import Toy, hear_ctrl_c

import understudy


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if true():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it never came to that")


def unbroken(toy: Toy, folder: Path) -> dict[str, bytes]:
    understudy.run(toy.path, folder=folder)
    return training_files(folder)


@pytest.mark.slow
def test_killed_while_the_teacher_answers(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy.study["arms"] = {"answers": ["answers"]}
    toy.study["seeds"] = [0]
    toy.save()
    toy.server.latency_s = 0.05
    process = toy.start()
    wait_until(lambda: toy.server.requests >= 15, process)
    process.kill()
    process.wait()
    assert toy.server.requests < 30
    durable = understudy.estimate(toy.path)["in_ledger"]
    assert durable >= 15 - 4  # what was in flight is all that is lost
    asked = toy.server.requests
    done = toy.call()
    assert done.returncode == 0, done.stderr
    assert toy.server.requests - asked == 30 - durable
    assert toy.server.doubles <= 4
    monkeypatch.setenv("UNDERSTUDY_CACHE_DIR", str(tmp_path / "fresh"))
    assert training_files(toy.runs) == unbroken(toy, tmp_path / "unbroken")


@pytest.mark.slow
def test_killed_while_a_student_trains(toy: Toy, tmp_path: Path):
    toy.study["arms"] = {"gold": ["gold"]}
    toy.study["seeds"] = [0]
    toy.study["student"] |= {"steps": 400, "checkpoint_every_s": 0}
    toy.save()
    process = toy.start()
    checkpoint = toy.runs / "arms" / "gold" / "seed-0" / "checkpoint" / "state.safetensors"
    wait_until(lambda: checkpoint.exists() and checkpoint.stat().st_size > 0, process)
    process.kill()
    process.wait()
    assert not (toy.runs / "arms" / "gold" / "seed-0" / "model").exists()
    done = toy.call()
    assert done.returncode == 0, done.stderr
    understudy.run(toy.path, folder=tmp_path / "unbroken")
    weights = "arms/gold/seed-0/model/model.safetensors"
    assert (toy.runs / weights).read_bytes() == (tmp_path / "unbroken" / weights).read_bytes()
    assert training_files(toy.runs) == training_files(tmp_path / "unbroken")


@pytest.mark.slow
def test_ctrl_c_stops_soon_keeps_all_and_says_how_to_go_on(toy: Toy):
    toy.study["arms"] = {"answers": ["answers"]}
    toy.save()
    toy.server.latency_s = 0.2
    process = toy.start()
    wait_until(lambda: toy.server.requests >= 9, process)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - started < 10
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    assert understudy.estimate(toy.path)["in_ledger"] >= 8


@pytest.mark.slow
def test_a_second_ctrl_c_waits_for_nothing(toy: Toy):
    toy.study["arms"] = {"answers": ["answers"]}
    toy.save()
    toy.server.latency_s = 0.05
    patient = (
        "from understudy.teachers.engine import engine; engine._DRAIN_S = 60; from understudy.cli import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", patient, "run", "study.yaml"],
        cwd=toy.folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    wait_until(lambda: toy.server.requests >= 9, process)
    toy.server.latency_s = 90
    wait_until(lambda: toy.server.in_flight == 4 and time.monotonic() - toy.server.times[-1] > 0.3, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "it waits for what is in flight"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command to go on" in said
    assert "Traceback" not in said
    assert understudy.estimate(toy.path)["in_ledger"] == toy.server.requests - 4


def test_a_failing_arm_ends_the_others_and_keeps_what_was_answered(toy: Toy):
    toy.server.latency_s = 0.02
    toy.study["arms"] = {"answers": ["answers"], "lost": {"chain": ["answers"], "teacher": {"name": "other"}}}
    toy.study["arms"]["lost"]["teacher"]["base_url"] = "http://127.0.0.1:9/v1"
    toy.save()
    with pytest.raises(understudy.UnderstudyError, match=re.escape("127.0.0.1:9")):
        understudy.run(toy.path, folder=toy.runs)
    kept = understudy.estimate(toy.path, changes=["arms={answers: [answers]}"])["in_ledger"]
    assert kept == len({body["messages"][0]["content"] for body in toy.server.bodies})
