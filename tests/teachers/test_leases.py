"""Two processes over one ledger: who may send what."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from asking import Live, asked, examples, prompt
from pydantic import BaseModel
from servers import ChatServer

from understudy.errors import WorkspaceError
from understudy.records import Example, Row
from understudy.teachers import Ledger, ask, open_teacher
from understudy.teachers.engine.leases import Leases
from understudy.teachers.request import key_of

ONE, TWO = key_of(b"one"), key_of(b"two")


def test_who_is_alone_needs_no_leases_and_opens_to_who_rings(tmp_path: Path):
    first = Leases(tmp_path / "ledger")
    assert first.take(ONE)
    first.let_in([ONE])  # nobody rings
    second = Leases(tmp_path / "ledger")
    assert not second.take(TWO), "not let in yet: the first may have sent it"
    first.let_in([ONE])
    assert not second.take(ONE), "in flight at the first"
    assert second.take(TWO)
    assert not first.take(TWO)
    third = Leases(tmp_path / "ledger")
    assert not third.take(ONE)
    first.give_back(ONE)
    assert third.take(ONE)
    first.close()
    second.close()
    assert third.take(TWO), "a process that ends leaves nothing behind"
    third.close()
    alone = Leases(tmp_path / "ledger")
    assert alone.take(ONE)
    alone.close()


@pytest.mark.slow
def test_what_a_frozen_process_has_leased_is_sent_after_all(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(timeout_s=0.6), ledger) as teacher:
        other = Leases(ledger.path)
        request = teacher.request(next(examples(1)), prompt(next(examples(1))), 0)
        while not other.take(request.key):
            time.sleep(0.02)
        kept, _ = asked(teacher, examples(3))
        other.close()
    assert [row.target for row in kept] == ["ROW 0;", "ROW 1;", "ROW 2;"]
    assert server.times[-1] - server.times[0] > 0.5


class Word(BaseModel):
    word: str


def read(row: Example, form: Word) -> Example:
    return row.replace(target=form.word)


@pytest.mark.slow
def test_two_processes_that_find_out_about_schemas_pay_for_nothing_twice(
    tmp_path: Path, server: ChatServer, live: Live
):
    """The first request is never answered: what waits for it to be is not leased meanwhile."""
    server.answer = '{"word": "yes"}'
    server.latency_s = 60
    kept: list[list[Row]] = []

    def run() -> None:
        with Ledger.open(tmp_path / "ledger") as ledger, open_teacher(live(timeout_s=0.5), ledger) as teacher:
            kept.append(list(ask(teacher, examples(40), prompt, read, form=Word)))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not server.requests:
        time.sleep(0.001)
    server.latency_s = 0
    for thread in threads:
        thread.join()
    assert [[row.target for row in rows if isinstance(row, Example)] for rows in kept] == [["yes"] * 40] * 2
    asked_for = Counter(body["messages"][-1]["content"] for body in server.bodies)
    assert [text for text, count in asked_for.items() if count > 1] == ["row 0;"], "whose first answer never came"


def test_a_ledger_in_use_is_not_pruned(ledger: Ledger, live: Live):
    with open_teacher(live(), ledger) as teacher:
        asked(teacher, examples(2))
        with Ledger.open(ledger.path) as other, pytest.raises(WorkspaceError, match="no run is under way"):
            other.prune(teacher="tiny")
    assert ledger.prune(teacher="tiny") == 2
