"""Rows leave in order, whatever the order of their replies, and one that is late holds up no other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from asking import Live, asked, examples, parse, prompt
from servers import ChatServer

from understudy.records import Dropped, Example, Origin
from understudy.teachers import Ledger, Reply, Request, Sampling, ask, line, open_teacher
from understudy.teachers.engine.jobs import Call, Job, Slot
from understudy.teachers.usage import Meter


def rows(count: int) -> Iterator[Example]:
    for example in examples(count):
        yield example.replace(
            target=("a", "b"),
            choices=("x",),
            notes={"plan": "none"},
            fields={"n": 1.5, "list": [1, None]},
            origin=Origin("set/train", "train", 3),
            parents=("p",),
        )


@pytest.mark.slow
def test_a_late_row_idles_nobody_and_memory_holds_few(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(line, "_HELD", 40)
    server.refuse = {"row 0;": 500, "row 900;": 400}
    read = 0

    def counted() -> Iterator[Example]:
        nonlocal read
        for read, row in enumerate(rows(1000), start=1):  # noqa: B007
            yield row

    with open_teacher(live(retries=3, concurrency=8), ledger) as teacher:
        coming = ask(teacher, counted(), prompt, lambda example, reply: example)
        first = next(coming)
        assert isinstance(first, Dropped)
        assert read == 1000, "all were read and sent while the first was waited for"
        later = list(coming)
    asked_for = [row.replace(target=("a", "b")) for row in rows(1000)][1:]
    dropped = [row for row in later if isinstance(row, Dropped)]
    assert [(row.example.id, row.reason) for row in dropped] == [("e900", "bad_request")]
    assert len(dropped[0].example.replies) == 1, "the key of the refusal"
    given = [row.example if isinstance(row, Dropped) else row for row in later]
    assert [row.replace(replies=()) for row in given] == asked_for
    assert server.requests == 1000 + 3


def test_a_row_that_is_no_json_waits_in_memory(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    @dataclass(frozen=True)
    class Odd:
        number: complex

    monkeypatch.setattr(line, "_HELD", 5)
    server.refuse = {"row 0;": 500}
    odd = (example.replace(fields={"odd": Odd(1j)}) for example in examples(200))
    with open_teacher(live(retries=1, concurrency=8), ledger) as teacher:
        kept, dropped = asked(teacher, odd)
    assert [row.id for row in kept] == [f"e{i}" for i in range(1, 200)]
    assert {row.fields["odd"] for row in kept} == {Odd(1j)}


@pytest.mark.slow
def test_a_long_replay_reads_no_further_ahead_than_it_must(ledger: Ledger, server: ChatServer, live: Live):
    read = 0

    def counted() -> Iterator[Example]:
        nonlocal read
        for read, row in enumerate(examples(6000), start=1):  # noqa: B007
            yield row

    with open_teacher(live(concurrency=8), ledger) as teacher:
        asked(teacher, examples(6000))
        coming = ask(teacher, counted(), prompt, parse)
        next(coming)
        assert read < 3000
        assert len(list(coming)) == 5999
    assert server.requests == 6000


SHARE = """
import sys
from asking import asked, examples
from understudy.teachers import Ledger, TeacherSettings, open_teacher
path, base_url = sys.argv[1:]
settings = TeacherSettings(model="tiny", base_url=base_url, concurrency=16)
with Ledger.open(path) as ledger, open_teacher(settings, ledger) as teacher:
    kept, dropped = asked(teacher, examples(400))
assert not dropped
print(*(row.target for row in kept), sep="")
"""


@pytest.mark.slow
def test_two_processes_share_a_ledger_and_send_nothing_twice(tmp_path: Path, server: ChatServer):
    server.latency_s = 0.05
    server.faults = [500, 503] * 4
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    command = [sys.executable, "-c", SHARE, str(tmp_path / "ledger"), server.base_url]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert said[0] == said[1] == "".join(f"ROW {i};" for i in range(400)) + "\n"
    assert server.requests == 400 + 8


def test_a_row_leaves_only_after_its_reply_was_looked_at():
    """The engine sets the outcomes of many rows, and tells of them a little later."""
    first, second, sent = Reply("yes or no"), Reply("yes"), list[Slot]()

    def submit(slots: Sequence[Slot]) -> None:
        for slot in slots:
            slot.job = Job("b2:0", b"", slot, [slot])
            slot.outcome = second if sent else first
            sent.append(slot)
            threading.Timer(0.05, waiting.answered, [slot]).start()

    def repair(request: Request, reply: Reply) -> Request | None:
        return request if reply is first else None

    waiting = line.Line(submit, lambda keys: {}, repair)
    request = Request("tiny", "tiny", [])
    call = Call(Sampling(), Meter(), retries=0, timeout_s=1.0, price=None, budget=None, say=print)
    waiting.join([(example, request) for example in examples(1)], call)
    taken = waiting.first(-1)
    assert taken is not None
    assert (taken.outcome, len(sent)) == (second, 2)
    assert (waiting.first(-1), waiting.unanswered) == (None, 0)
