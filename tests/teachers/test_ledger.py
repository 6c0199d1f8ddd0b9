"""The ledger as a file: what it keeps, who may use it, and what it does when it cannot."""

from __future__ import annotations

import os
import random
import sqlite3
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from understudy.errors import OutOfSpace, WorkspaceError
from understudy.teachers import Ledger, Message, Price, Reply, Request, ledger_path
from understudy.teachers.ledger_file import Failure, Write
from understudy.teachers.request import key_of


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


@pytest.mark.slow
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


@dataclass(frozen=True)
class Stored:
    """A ledger as a power cut leaves it before SQLite has written anything back into the main file."""

    main: bytes
    log: bytes
    ends: list[int]  # where each frame of the log ends
    whole: list[int]  # where each frame that ends a commit ends
    states: list[tuple[dict[str, str], int]]  # the replies and the number of failures after each of those

    def cut(self, folder: Path, log: bytes) -> Path:
        folder.mkdir()
        (folder / "ledger.sqlite3").write_bytes(self.main)
        (folder / "ledger.sqlite3-wal").write_bytes(log)
        return folder / "ledger.sqlite3"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    path = tmp_path_factory.mktemp("stored") / "ledger.sqlite3"
    log, draw = path.with_name(path.name + "-wal"), random.Random(5)
    replies, failures, states, rows = dict[str, str](), 0, [], count()
    with Ledger.open(path) as ledger:
        assert log.stat().st_size == 0
        for group in range(16):
            texts = [draw.randbytes(draw.choice([5, 5, 500, 4000])).hex() for _ in range(draw.randint(0, 6))]
            contents = [request(next(rows)).content() for _ in texts]
            writes = [
                Write(key_of(content), content, "teacher", Reply(text))
                for content, text in zip(contents, texts, strict=True)
            ]
            lost = [Failure(request(-i).key, "teacher", "timed_out", "late", None) for i in range(group % 3)]
            if not writes and not lost:
                continue
            ledger.commit(writes, lost)
            if draw.random() < 0.5:  # the groups in between are synced together with the next
                ledger.sync()
            replies |= {write.key: write.reply.text for write in writes}
            failures += len(lost)
            states.append((dict(replies), failures))
        frames, whole = frames_of(log.read_bytes())
        return Stored(path.read_bytes(), log.read_bytes(), frames, whole, states)


def frames_of(log: bytes) -> tuple[list[int], list[int]]:
    """Where the frames of a write-ahead log end, and where those do that end a commit.

    https://www.sqlite.org/fileformat2.html#the_write_ahead_log
    """
    (page_size,) = struct.unpack_from(">I", log, 8)
    ends, whole, place = [], [], 32
    while place < len(log):
        (pages_after_commit,) = struct.unpack_from(">I", log, place + 4)
        place += 24 + page_size
        ends.append(place)
        if pages_after_commit:
            whole.append(place)
    return ends, whole


def assert_holds(path: Path, state: tuple[dict[str, str], int]) -> None:
    replies, failures = state
    with Ledger.open(path) as ledger:
        assert {entry.key: entry.reply.text for entry in ledger.entries()} == replies
        assert ledger.info().failures == failures
        again = ledger.put(request(1), Reply("paid again"))
        assert again.text == replies.get(request(1).key, "paid again")
    with Ledger.open(path) as ledger:
        assert ledger.info().replies == len(replies | {request(1).key: ""})


@pytest.mark.slow
def test_a_power_cut_at_any_frame_of_the_log_leaves_every_whole_commit(tmp_path: Path, stored: Stored):
    assert len(stored.ends) > 40
    assert len(stored.whole) == len(stored.states), "one commit a group"
    for cut in (0, 32, *stored.ends):
        path = stored.cut(tmp_path / str(cut), stored.log[:cut])
        assert_holds(path, state_at(stored, cut))


@pytest.mark.slow
def test_a_power_cut_at_any_byte_of_the_log_leaves_every_whole_commit(tmp_path: Path, stored: Stored):
    draw = random.Random(7)
    for number in range(100):
        cut = draw.randrange(len(stored.log))
        lost = bytes(len(stored.log) - cut) * (number % 2)  # a file may have grown before its content came
        path = stored.cut(tmp_path / str(number), stored.log[:cut] + lost)
        while lost and cut < len(stored.log) and not stored.log[cut]:
            cut += 1  # what was lost was nothing but zeros
        assert_holds(path, state_at(stored, cut))


def state_at(stored: Stored, cut: int) -> tuple[dict[str, str], int]:
    commits = sum(end <= cut for end in stored.whole)
    return stored.states[commits - 1] if commits else ({}, 0)


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
