"""A run that is killed, or stopped with Ctrl-C: nothing that was handed on is asked for again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import ChatServer
from toys import hear_ctrl_c

from understudy.teachers import Ledger

pytestmark = pytest.mark.slow  # processes of their own

ROWS = 300
RUN = """
import sys
from asking import examples, parse, prompt
from understudy.errors import UnderstudyError
from understudy.teachers import Ledger, TeacherSettings, ask, open_teacher
ledger, base_url, out = sys.argv[1:]
settings = TeacherSettings(model="tiny", base_url=base_url, concurrency=8)
with Ledger.open(ledger) as ledger, open_teacher(settings, ledger) as teacher, open(out, "w") as file:
    for row in ask(teacher, examples(300), prompt, parse):
        print(row.id, row.target, row.replies[0], file=file, flush=True)
"""


def start(tmp_path: Path, server: ChatServer) -> subprocess.Popen[bytes]:
    arguments = [str(tmp_path / "ledger.sqlite3"), server.base_url, str(tmp_path / "out")]
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], env=environment, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c
    )


def wait_for(server: ChatServer, requests: int) -> None:
    for _ in range(3000):
        if server.requests >= requests:
            return
        time.sleep(0.01)
    raise AssertionError(f"only {server.requests} requests came")


@pytest.mark.parametrize("moment", [1, 60, 190])
def test_after_a_kill_only_what_was_in_flight_is_asked_again(tmp_path: Path, server: ChatServer, moment: int):
    server.latency_s = 0.01
    run = start(tmp_path, server)
    wait_for(server, moment)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    handed_on = (tmp_path / "out").read_text().splitlines() if (tmp_path / "out").exists() else []
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        keys = [line.split()[-1] for line in handed_on if line.count(" ") == 4]
        assert len(ledger.get_many(keys)) == len(keys)
        durable = ledger.info().replies
    time.sleep(0.1)
    before = server.requests
    assert start(tmp_path, server).communicate(timeout=60)[1] == b""
    assert server.requests - before == ROWS - durable
    assert server.doubles <= 8, "at most what was in flight"
    lines = (tmp_path / "out").read_text().splitlines()
    assert [line.split(";")[0] for line in lines] == [f"e{i} ROW {i}" for i in range(ROWS)]
    whole = max(0, len(handed_on) - 1)
    assert lines[:whole] == handed_on[:whole]


def test_ctrl_c_stops_soon_and_keeps_everything(tmp_path: Path, server: ChatServer):
    server.latency_s = 0.05
    run = start(tmp_path, server)
    wait_for(server, 50)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=10)
    assert b"KeyboardInterrupt" in errors
    assert server.requests < ROWS
    time.sleep(0.1)
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        assert ledger.info().replies == server.requests, "what was in flight landed"
