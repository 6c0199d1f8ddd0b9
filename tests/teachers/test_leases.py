"""Two processes over one ledger: who may send what."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from asking import Live, asked, examples, prompt
from servers import ChatServer

from understudy.teachers import Ledger, open_teacher
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
