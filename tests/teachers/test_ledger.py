"""The ledger as a file: what it keeps, who may use it, and what it does when it cannot."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from understudy.errors import OutOfSpace, WorkspaceError
from understudy.teachers import Ledger, Message, Price, Reply, Request, ledger_path


def request(number: int, **changes: object) -> Request:
    messages: list[Message] = [{"role": "user", "content": f"row {number}"}]
    return Request("teacher", "model", messages, **changes)  # type: ignore[arg-type]


def test_a_reply_comes_back_as_it_was(tmp_path: Path):
    reply = Reply("Käse " * 500, "stop", 3, 4, 0.25, "model-1", 0.5, 2, True)
    with Ledger.open(tmp_path / "new" / "ledger.sqlite3") as ledger:
        assert ledger.put(request(1), reply, Price(input=1, output=2)) == reply
    with Ledger.open(tmp_path / "new" / "ledger.sqlite3") as ledger:
        entry = ledger.get(request(1).key)
        assert entry is not None
        assert (entry.reply, entry.request, entry.price) == (reply, request(1), Price(input=1, output=2))
        assert ledger.get("b2:none") is None
        assert ledger.get_many([request(1).key, "b2:none"]) == {request(1).key: reply}
        info = ledger.info()
        assert (info.replies, info.recorded, info.usd, info.teachers) == (1, 1, 0.25, {"teacher": 1})


def test_the_first_reply_to_a_request_stays(tmp_path: Path):
    with Ledger.open(tmp_path / "l") as one, Ledger.open(tmp_path / "l") as two:
        assert one.put(request(1), Reply("first")).text == "first"
        assert two.put(request(1), Reply("second")).text == "first"


def test_many_threads_and_processes_may_write_at_once(tmp_path: Path):
    path = tmp_path / "ledger.sqlite3"
    code = (
        "import sys; from understudy.teachers import *\n"
        "with Ledger.open(sys.argv[1]) as ledger:\n"
        "    for i in range(int(sys.argv[2]), int(sys.argv[2]) + 50):\n"
        "        ledger.put(Request('teacher', 'model', [{'role': 'user', 'content': f'row {i}'}]), Reply(str(i)))\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(path), str(start)]) for start in (0, 25)]
    with Ledger.open(path) as ledger:
        threads = [
            threading.Thread(target=lambda t=t: [ledger.put(request(i), Reply(str(i))) for i in range(t, t + 50)])
            for t in (50, 75)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [other.wait(timeout=60) for other in others] == [0, 0]
        known = ledger.get_many([request(i).key for i in range(2000)])
    assert [known[request(i).key].text for i in range(125)] == [str(i) for i in range(125)]
    assert len(known) == 125


def test_what_was_committed_survives_a_cut_at_any_place_of_the_write_ahead_log(tmp_path: Path):
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(path) as ledger:
        sizes = []
        for i in range(20):
            ledger.put(request(i), Reply(f"reply {i}"))
            sizes.append(path.with_name(path.name + "-wal").stat().st_size)
        log = path.with_name(path.name + "-wal").read_bytes()
        shutil.copy(path, tmp_path / "main")
    for cut in range(0, len(log) + 1, 2_999):
        folder = tmp_path / f"cut-{cut}"
        folder.mkdir()
        shutil.copy(tmp_path / "main", folder / "ledger.sqlite3")
        (folder / "ledger.sqlite3-wal").write_bytes(log[:cut])
        with Ledger.open(folder / "ledger.sqlite3") as ledger:
            known = ledger.get_many([request(i).key for i in range(20)])
        durable = sum(size <= cut for size in sizes)
        assert [known[request(i).key].text for i in range(durable)] == [f"reply {i}" for i in range(durable)]


def test_a_full_disk_is_said_and_what_was_there_is_whole(tmp_path: Path):
    with Ledger.open(tmp_path / "l") as ledger:
        ledger.put(request(1), Reply("small"))
        ledger._writer.execute("PRAGMA max_page_count = 8")
        with pytest.raises(OutOfSpace, match="free some space"):
            ledger.put(request(2), Reply(os.urandom(100_000).hex()))
        assert ledger.put(request(3), Reply("small too")).text == "small too"
    with Ledger.open(tmp_path / "l") as ledger:
        assert ledger.info().replies == 2


def test_a_file_that_is_no_ledger_or_a_newer_one_is_left_alone(tmp_path: Path):
    (tmp_path / "text").write_text("not a ledger at all, and long enough to look like something " * 20)
    with pytest.raises(WorkspaceError, match="is no ledger"):
        Ledger.open(tmp_path / "text")
    with sqlite3.connect(tmp_path / "new") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(WorkspaceError, match="version 99"):
        Ledger.open(tmp_path / "new")
    with pytest.raises(WorkspaceError, match="cannot be used"):
        Ledger.open(tmp_path / "text" / "below a file")


def test_a_closed_ledger_says_so(tmp_path: Path):
    ledger = Ledger.open(tmp_path / "l")
    ledger.close()
    ledger.close()
    with pytest.raises(WorkspaceError, match="closed"):
        ledger.put(request(1), Reply("late"))


def test_the_default_place_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNDERSTUDY_CACHE_DIR", str(tmp_path / "here"))
    assert ledger_path() == tmp_path / "here" / "ledger.sqlite3"
    with Ledger.open() as ledger:
        assert ledger.path == ledger_path()
    monkeypatch.delenv("UNDERSTUDY_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if sys.platform == "linux":
        assert ledger_path() == tmp_path / "cache" / "understudy" / "ledger.sqlite3"
