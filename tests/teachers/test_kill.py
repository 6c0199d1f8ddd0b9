"""A run that is killed, or stopped with Ctrl-C: nothing that was handed on is lost or asked for again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import ChatServer
from toys import hear_ctrl_c

from understudy.teachers import Ledger

pytestmark = pytest.mark.slow  # processes of their own

WINDOW = 16
RUN = """
import sys
from asking import examples, parse, prompt
from understudy.teachers import Ledger, TeacherSettings, ask, open_teacher
from understudy.teachers.engine import engine
ledger, out, base_url, rows, window, drain_s = sys.argv[1:]
engine._DRAIN_S = float(drain_s)
settings = TeacherSettings(model="tiny", base_url=base_url, concurrency=int(window))
with Ledger.open(ledger) as ledger, open_teacher(settings, ledger) as teacher, open(out, "w") as file:
    for row in ask(teacher, examples(int(rows)), prompt, parse):
        print(row.id, row.target, row.replies[0], file=file, flush=True)
"""


def start(folder: Path, server: ChatServer, rows: int, *, drain_s: float = 1.5) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    paths = [str(folder / "ledger.sqlite3"), str(folder / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *paths, server.base_url, str(rows), str(WINDOW), str(drain_s)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )


def finish(folder: Path, server: ChatServer, rows: int) -> bytes:
    """What an unbroken run writes."""
    run = start(folder, server, rows)
    assert run.communicate(timeout=60)[1] == ""
    return (folder / "out").read_bytes()


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(6000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("it never came to that")


def handed_on(folder: Path) -> list[tuple[str, str]]:
    """The input and the ledger key of every row that stands whole in the output."""
    text = (folder / "out").read_text() if (folder / "out").exists() else ""
    whole = text[: text.rfind("\n") + 1]
    return [(line.split(" ", 1)[1].partition(";")[0].lower() + ";", line.split()[-1]) for line in whole.splitlines()]


def assert_all_durable(folder: Path, rows: list[tuple[str, str]]) -> None:
    with Ledger.open(folder / "ledger.sqlite3") as ledger:
        assert len(ledger.get_many([key for _, key in rows])) == len(rows)


def test_killed_at_twenty_moments(tmp_path: Path, server: ChatServer):
    rows, kills, draw = 4000, 20, random.Random(3)
    server.latency_s = 0.01
    server.answer = lambda messages: f"{messages[-1]['content'].upper()}{'!' * (hash_of(messages) % 3000)}"
    sent_before: dict[str, int] = {}  # requests for a row when it was first seen in the output
    for kill in range(kills):
        run, asked = start(tmp_path, server, rows), server.requests
        if kill % 4:
            more = draw.randrange(1, 250)
            wait_until(lambda asked=asked, more=more: server.requests >= asked + more)
        time.sleep(draw.uniform(0, 0.05 if kill % 4 else 0.8))  # some while it starts or reads the ledger
        run.send_signal(signal.SIGKILL)
        assert run.communicate(timeout=30)[1] == ""
        assert run.returncode == -signal.SIGKILL, "rows enough for every kill"
        wait_until(lambda: server.in_flight == 0)
        whole = handed_on(tmp_path)
        assert_all_durable(tmp_path, whole)
        sent = counts(server)
        for text, _ in whole:
            sent_before.setdefault(text, sent[text])
        assert server.doubles <= WINDOW * kill
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        durable = ledger.info().replies
    assert 1000 < durable < rows
    asked = server.requests
    out = finish(tmp_path, server, rows)
    assert server.requests - asked == rows - durable, "only what was in flight is asked again"
    assert server.doubles <= WINDOW * kills
    sent = counts(server)
    assert len(sent_before) > 500
    assert all(sent[text] == before for text, before in sent_before.items()), "nothing that was handed on"
    with ChatServer(answer=server.answer) as other:
        assert finish(tmp_path / "unbroken", other, rows) == out


def hash_of(messages: list[dict[str, str]]) -> int:
    return sum(map(ord, messages[-1]["content"])) * 7919


def counts(server: ChatServer) -> Counter[str]:
    return Counter(body["messages"][-1]["content"] for body in server.bodies)


def stuck(folder: Path, server: ChatServer, drain_s: float) -> tuple[subprocess.Popen[str], int]:
    """A run whose requests in flight are answered by nobody, and how many were answered before."""
    server.latency_s = 0.02
    run = start(folder, server, rows=1000, drain_s=drain_s)
    wait_until(lambda: server.requests >= 100)
    server.latency_s = 60
    wait_until(lambda: server.in_flight == WINDOW and time.monotonic() - server.times[-1] > 0.3)
    return run, server.requests - WINDOW


def test_ctrl_c_waits_shortly_for_what_is_in_flight_and_keeps_everything(tmp_path: Path, server: ChatServer):
    run, answered = stuck(tmp_path, server, drain_s=1.5)
    started = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert time.monotonic() - started < 4
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert_all_durable(tmp_path, handed_on(tmp_path))
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        assert ledger.info().replies == answered


def test_ctrl_c_lets_what_is_in_flight_land(tmp_path: Path, server: ChatServer):
    server.latency_s = 0.2
    run = start(tmp_path, server, rows=1000, drain_s=30)
    wait_until(lambda: server.requests >= 100)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        assert ledger.info().replies == server.requests < 1000


def test_a_second_ctrl_c_waits_for_nothing(tmp_path: Path, server: ChatServer):
    run, answered = stuck(tmp_path, server, drain_s=50)
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert run.poll() is None, "it waits for what is in flight"
    started = time.monotonic()
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert time.monotonic() - started < 10
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert run.returncode in (-signal.SIGINT, 130)
    assert len(handed_on(tmp_path)) == answered
    assert_all_durable(tmp_path, handed_on(tmp_path))
    server.latency_s = 0
    asked = server.requests
    finish(tmp_path, server, rows=1000)
    assert server.requests - asked == 1000 - answered
