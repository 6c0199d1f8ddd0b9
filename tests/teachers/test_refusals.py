"""Requests that a teacher refuses for good: a run made again offline knows of them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import DataError
from understudy.teachers import Ledger, Secrets, import_cassette, open_teacher, write_cassette


def test_a_refusal_is_kept_for_those_who_may_not_ask(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"row 3;": 400}
    with open_teacher(live(), ledger) as teacher:
        kept, dropped = asked(teacher, examples(4))
    assert [(row.reason, row.detail[:4]) for row in dropped] == [("bad_request", "400:")]
    assert (ledger.info().replies, ledger.info().refusals, ledger.info().failures) == (3, 1, 0)
    with open_teacher(live(), ledger, offline=True) as teacher:
        assert asked(teacher, examples(5))[0] == kept
        assert asked(teacher, examples(4)) == (kept, dropped)
        assert (teacher.usage().from_ledger, teacher.usage().requests) == (8, 1), "one of the five is missing"
    assert server.requests == 4

    server.refuse = {}
    with open_teacher(live(), ledger) as teacher:
        assert len(asked(teacher, examples(4))[0]) == 4, "it may have changed its mind"
    with open_teacher(live(), ledger, offline=True) as teacher:
        assert len(asked(teacher, examples(4))[0]) == 4
    ledger.prune(teacher="tiny")
    assert ledger.info().refusals == 0


def test_what_may_pass_is_not_kept(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"row 1;": 500}
    with open_teacher(live(retries=0), ledger) as teacher:
        _, dropped = asked(teacher, examples(3))
    assert [(row.reason, row.example.replies) for row in dropped] == [("server_error", ())]
    assert ledger.info().refusals == 0


def test_what_collects_missing_requests_is_told_of_refused_ones_too(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"row 0;": 400}
    with open_teacher(live(), ledger) as teacher:
        asked(teacher, examples(3))
    missing = []
    with open_teacher(live(), ledger, offline=True, missing=missing.append) as teacher:
        asked(teacher, examples(3))
    assert [request.messages[-1]["content"] for request in missing] == ["row 0;"]


def test_what_recorded_files_lack_is_not_kept(ledger: Ledger, tmp_path: Path):
    file = tmp_path / "replies.jsonl"
    file.write_text('{"text": "row 0;", "reply": "yes"}\n')
    values = {"backend": "recorded", "replies": {"path": str(file), "match": {"text": "text"}}}
    with open_teacher(values, ledger) as teacher:
        _, dropped = asked(teacher, examples(2))
    assert [(row.reason, row.example.replies) for row in dropped] == [("no_recorded_reply", ())]
    assert ledger.info().refusals == 0


def test_cassettes_carry_refusals(
    ledger: Ledger, server: ChatServer, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    server.refuse = {"row 1;": 400}
    server.fault_body = {"error": {"message": "the key planted-0123456789 is not liked"}}
    with open_teacher(live(), ledger) as teacher:
        kept, dropped = asked(teacher, examples(3))
    monkeypatch.setenv("SOME_API_KEY", "planted-0123456789")
    keys = [key for row in [*kept, *(row.example for row in dropped)] for key in row.replies]
    file, again = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    written = write_cassette(file, keys, ledger, study="toy", secrets=Secrets.all_known())
    assert (written.replies, written.refused) == (2, 1)
    header, *lines = map(json.loads, file.read_text().splitlines())
    assert (header["replies"], header["refused"]) == (2, 1)
    (line,) = (line for line in lines if "refused" in line)
    assert set(line) == {"key", "request", "refused", "created"}
    assert line["refused"] == {"reason": "bad_request", "detail": "400: the key *** is not liked"}

    with Ledger.open(tmp_path / "elsewhere" / "ledger.sqlite3") as other:
        found = import_cassette(file, other)
        assert (found.replies, found.new, found.refused, found.promised) == (2, 2, 1, 2)
        with open_teacher(live(), other, offline=True) as teacher:
            assert asked(teacher, examples(3))[0] == kept
            assert teacher.usage().requests == 0
        write_cassette(again, keys, other, study="toy")
        assert again.read_bytes() == file.read_bytes()
        for old, new in [('"reason":"', '"why":"'), ("row 1;", "row 7;")]:
            again.write_text(file.read_text().replace(old, new))
            with pytest.raises(DataError, match=r"b\.jsonl:\d"):
                import_cassette(again, other)


def test_a_ledger_from_before_there_were_refusals_opens(tmp_path: Path):
    path = tmp_path / "old.sqlite3"
    Ledger.open(path).close()
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE refusals")
    with Ledger.open(path) as ledger:
        assert ledger.info().refusals == 0
