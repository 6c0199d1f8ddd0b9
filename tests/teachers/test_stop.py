"""Stop texts: an answer ends before them, also where the server leaves them in."""

from __future__ import annotations

from typing import Any

import pytest
from asking import asked, examples
from batch_server import BatchServer
from servers import ChatServer

from understudy.teachers import Ledger, open_teacher
from understudy.teachers.backends.batch import Batch


@pytest.mark.parametrize(("backend", "kind"), [("openai", ChatServer), ("batch", BatchServer)])
def test_an_answer_ends_at_the_first_stop_text(
    ledger: Ledger, backend: str, kind: type[ChatServer], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Batch, "quiet_s", 0.05)
    # it ran on to the limit: what stands before the stop text is whole all the same
    with kind(answer="yes\nInput: no###", finish_reason="length") as server:
        values: dict[str, Any] = {"backend": backend, "model": "tiny", "base_url": server.base_url}
        values |= {"poll_s": 0.02} if backend == "batch" else {}
        values["sampling"] = {"stop": ["###", "\nInput:"]}
        with open_teacher(values, ledger) as teacher:
            kept, _ = asked(teacher, examples(2), n=2)
            assert [row.target for row in kept] == ["yes"] * 4
            _, dropped = asked(teacher.with_sampling(stop=["?"]), examples(1))
    assert [row.reason for row in dropped] == ["cut_off"]
    assert {(e.reply.text, e.reply.finish_reason) for e in ledger.entries()} == {
        ("yes", "stop"),
        ("yes\nInput: no###", "length"),
    }
