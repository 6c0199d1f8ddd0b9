"""Batches: many requests in one file, answered hours later, by whichever run is there then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from asking import asked, examples
from batch_server import BatchServer
from test_secrets import KEY, PASSWORD, assert_no_file_holds_a_secret, clean
from toys import hear_ctrl_c

from understudy.errors import TeacherError
from understudy.settings import validate
from understudy.teachers import Budget, Ledger, Price, Spending, Teacher, TeacherSettings, open_teacher
from understudy.teachers.backends import batch_fetch
from understudy.teachers.backends.batch import Batch
from understudy.teachers.backends.batch_api import BatchApi
from understudy.teachers.prices import TABLE, Priced

pytestmark = pytest.mark.slow  # many small waits


@pytest.fixture
def server() -> Iterator[BatchServer]:
    running = BatchServer(answer=lambda messages: messages[-1]["content"].upper())
    with running:
        yield running


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "quiet_s", 0.05)


def settings(server: BatchServer, **changes: object) -> TeacherSettings:
    values = {"backend": "batch", "model": "tiny", "base_url": server.base_url, "poll_s": 0.02, **changes}
    return validate(TeacherSettings, values, "teacher")


def test_fifty_rows_in_one_batch_come_back_in_order(ledger: Ledger, server: BatchServer):
    price = Price(input=1, output=2)
    with open_teacher(settings(server, price=price), ledger) as teacher:
        kept, dropped = asked(teacher, examples(50))
        usage = teacher.usage()
    assert [row.target for row in kept] == [f"ROW {i};" for i in range(50)]
    assert (dropped, server.sizes, server.uploads) == ([], [50], 1)
    assert server.bodies[0].keys() == {"model", "messages"}
    assert (usage.requests, usage.unpriced) == (50, 0)
    assert usage.spent_usd == pytest.approx(50 * (10 * 1 + 5 * 2) / 1e6)
    with open_teacher(settings(server), ledger) as teacher:
        assert asked(teacher, examples(50))[0] == kept
    assert server.requests == 50


def test_it_says_what_it_does_and_costs_what_the_table_says_of_batches(
    ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch
):
    priced = Priced(Price(input=1, output=2), 0.5, date(2026, 3, 1), "https://example.com/prices")
    monkeypatch.setitem(TABLE, "127.0.0.1", {"tiny": priced})
    said: list[str] = []
    with open_teacher(settings(server), ledger, say=said.append) as teacher:
        asked(teacher, examples(3))
        assert teacher.usage().spent_usd == pytest.approx(3 * 0.5 * (10 * 1 + 5 * 2) / 1e6)
    assert said[0].startswith("sent 3 requests as batch_1 to ")
    assert "completed, 3 of 3 requests done" in said[-1]
    assert all(entry.price == Price(input=0.5, output=1) for entry in ledger.entries())


def test_many_requests_wait_together_unless_the_study_says_otherwise(server: BatchServer):
    assert settings(server).concurrency == 10_000
    assert settings(server, concurrency=7).concurrency == 7
    assert TeacherSettings(model="tiny").concurrency == 64


def test_the_limits_of_a_file_split_it(ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Batch, "most_requests", 20)
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(50))[0]) == 50
        assert server.sizes == [20, 20, 10]
        monkeypatch.setattr(Batch, "most_bytes", 2000)
        assert len(asked(teacher, examples(20, start=50))[0]) == 20
    assert all(len(file) <= 2000 for name, file in server.files.items() if name in ("file-4", "file-5", "file-6"))
    assert server.doubles == 0


def test_rows_that_a_batch_made_room_for_wait_for_one_another(
    ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch_fetch, "_GROUP", 3)
    with open_teacher(settings(server, concurrency=20), ledger) as teacher:
        assert len(asked(teacher, examples(50))[0]) == 50
    assert server.sizes == [20, 20, 10]


@pytest.mark.parametrize("says_expired", [True, False])
def test_what_an_expired_batch_left_goes_into_another(ledger: Ledger, server: BatchServer, says_expired: bool):
    server.endings, server.says_expired = ["expired"], says_expired
    with open_teacher(settings(server), ledger) as teacher:
        kept, dropped = asked(teacher, examples(20))
    assert (len(kept), dropped, server.sizes) == (20, [], [20, 10])
    assert server.doubles == 0


def test_lines_of_the_error_file_are_faults_of_their_rows(ledger: Ledger, server: BatchServer):
    server.refuse = {"row 3;": 400, "row 5;": 500}
    with open_teacher(settings(server, retries=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(8))
    assert len(kept) == 6
    assert [(row.example.id, row.reason) for row in dropped] == [("e3", "bad_request"), ("e5", "server_error")]
    assert "400: made to fail with 400" in dropped[0].detail
    assert server.sizes == [8, 1]


def test_when_every_request_is_refused_the_run_ends(ledger: Ledger, server: BatchServer):
    server.refuse = {"row": 400}
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="teacher.sampling"):
        asked(teacher, examples(8))


@pytest.mark.parametrize("group", [2, 3])
def test_an_answer_in_no_known_form_is_not_paid_for_again(
    ledger: Ledger, server: BatchServer, group: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch_fetch, "_GROUP", group)
    server._answered = lambda one: {"answer": "yes", "response": {"status_code": 200}}  # type: ignore[method-assign]
    for _ in range(2):
        with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="not known here"):
            asked(teacher, examples(3))
    assert server.sizes == [3]


def test_a_batch_that_fails_says_why(ledger: Ledger, server: BatchServer):
    server.endings = ["failed"]
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError) as caught:
        asked(teacher, examples(3))
    assert "line 1: This line is not parseable" in str(caught.value)
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(3))[0]) == 3


def test_a_full_queue_is_waited_for_and_large_files_are_halved(
    ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Batch, "most_requests", 20)
    server.room = 12
    with open_teacher(settings(server), ledger) as teacher:
        kept, dropped = asked(teacher, examples(50))
    assert (len(kept), dropped, server.doubles) == (50, [], 0)
    assert max(len(one.requests) for one in server.batches.values() if one.status == "completed") <= 12
    server.room = 0
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="Enqueued token limit"):
        asked(teacher, examples(3, start=50))


def test_a_small_file_that_found_no_room_leaves_later_ones_as_large(ledger: Ledger, server: BatchServer):
    server.room, server.is_held = 10, True
    with open_teacher(settings(server), ledger) as teacher:
        threads = [
            Thread(target=asked, args=(teacher, examples(10))),
            Thread(target=asked, args=(teacher, examples(2, start=10))),
        ]
        for thread, batches in zip(threads, (1, 2), strict=True):
            thread.start()
            wait_until(lambda: len(server.batches) == batches)  # noqa: B023
        server.is_held = False
        for thread in threads:
            thread.join()
        assert len(asked(teacher, examples(10, start=12))[0]) == 10
    assert server.sizes == [10, 2, 2, 10]


def test_what_another_model_answered_is_asked_again_where_somebody_has_heard_of_it(ledger: Ledger, server: BatchServer):
    answered = server._answered

    def by_another(one: dict[str, Any]) -> dict[str, Any]:
        line = answered(one)
        if "row 2;" in one["body"]["messages"][-1]["content"]:
            line["response"]["body"]["model"] = "larger"
        return line

    server._answered = by_another  # type: ignore[method-assign]
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError) as caught:
        asked(teacher, examples(5))
    assert "answered as 'larger'" in str(caught.value)
    assert "1 answers of batch_1 are none: what else it brought is kept" in str(caught.value)
    assert (ledger.info().replies, server.sizes) == (4, [5])
    server._answered = answered  # type: ignore[method-assign]
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(5))[0]) == 5
    assert server.sizes == [5, 1]


def test_what_somebody_cancels_is_not_sent_again_by_itself(ledger: Ledger, server: BatchServer):
    server.endings, server.says_expired = ["cancelled"], True
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="was cancelled"):
        asked(teacher, examples(10))
    assert (server.sizes, ledger.info().replies) == ([10], 5)
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(10))[0]) == 10
    assert (server.sizes, server.doubles) == ([10, 5], 0)


def test_a_provider_that_stumbles_is_asked_again(ledger: Ledger, server: BatchServer):
    server.faults, server.lost_creates = [503, 500, 429], 1
    with open_teacher(settings(server), ledger) as teacher:
        kept, _ = asked(teacher, examples(5))
        assert (len(kept), server.sizes, server.uploads) == (5, [5], 1)
        server.keeps_metadata, server.lost_creates = False, 1
        kept, _ = asked(teacher, examples(5, start=5))
    assert (len(kept), server.sizes, server.doubles) == (5, [5, 5], 0)


def test_what_cannot_work_is_said_before_anything_is_paid(
    ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch
):
    server.faults = [401]
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="export OPENAI_API_KEY"):
        asked(teacher, examples(3))
    url = server.base_url.replace("/v1", "/v2")
    with open_teacher(settings(server, base_url=url), ledger) as teacher, pytest.raises(TeacherError) as caught:
        asked(teacher, examples(3))
    assert "has no batch API" in str(caught.value)
    server.is_down = True
    monkeypatch.setattr(BatchApi, "patience_s", 0.1)
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="run the same command"):
        asked(teacher, examples(3))
    server.stop()
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="cannot be reached"):
        asked(teacher, examples(3))


def wait_until(happened: Callable[[], bool], run: subprocess.Popen[bytes] | None = None) -> None:
    for _ in range(3000):
        if happened():
            return
        if run is not None and run.poll() is not None:
            raise AssertionError(f"the run ended before it happened: {run.communicate()[1].decode()}")
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def is_under_way(server: BatchServer) -> bool:
    return any(one.status == "in_progress" for one in server.batches.values())


def ask_till_closed(teacher: Teacher, rows: int) -> None:
    with suppress(TeacherError):
        asked(teacher, examples(rows))


def stopped_run(
    ledger: Ledger, server: BatchServer, rows: int, budget: Budget | None = None, **changes: object
) -> list[str]:
    """A run that ends while its batch is under way; what it said."""
    said: list[str] = []
    server.is_held, looks = True, server.looks
    with open_teacher(settings(server, **changes), ledger, say=said.append, budget=budget) as teacher:
        thread = Thread(target=ask_till_closed, args=(teacher, rows))
        thread.start()
        wait_until(lambda: is_under_way(server) and server.looks > looks + 2)
    thread.join()
    server.is_held = False
    return said


def test_a_later_run_waits_for_the_batches_of_a_stopped_one(ledger: Ledger, server: BatchServer):
    stopped_run(ledger, server, 5)
    with open_teacher(settings(server), ledger) as teacher:
        kept, _ = asked(teacher, examples(8))
    assert [row.target for row in kept] == [f"ROW {i};" for i in range(8)]
    assert (server.sizes, server.doubles) == ([5, 3], 0)


def test_what_nobody_asks_for_any_more_is_kept_all_the_same(ledger: Ledger, server: BatchServer):
    stopped_run(ledger, server, 10)
    with open_teacher(settings(server, price=Price(input=1, output=2)), ledger) as teacher:
        asked(teacher, examples(2))
    assert (ledger.info().replies, server.sizes) == (10, [10])
    assert ledger.info().usd == pytest.approx(10 * 20 / 1e6)


DEAR = {"price": {"input": 1_000_000, "output": 2_000_000}, "sampling": {"max_tokens": 5}}  # a dollar a prompt token
COST = 10 * 1 + 5 * 2  # of what the server says that one reply took


def test_what_waits_in_a_batch_is_counted_until_a_later_run_fetches_it(ledger: Ledger, server: BatchServer):
    noted: list[Spending] = []
    first = Budget(usd=1000, payer="a study", note=noted.append)
    stopped_run(ledger, server, 5, first, **DEAR)
    assert 5 * COST < first.spent.usd == noted[-1].usd <= 1000 < 2 * first.spent.usd, "it holds no second time"
    again = Budget(usd=1000, payer="a study", spent=first.spent)
    stopped_run(ledger, server, 5, again, **DEAR)
    assert again.spent == first.spent, "nothing came, and nothing more was sent"
    last = Budget(usd=1000, payer="a study", spent=again.spent)
    with open_teacher(settings(server, **DEAR), ledger, budget=last) as teacher:
        kept, _ = asked(teacher, examples(12))
    assert (len(kept), server.sizes[0], server.doubles) == (12, 5, 0)
    assert (last.spent.usd, last.spent.requests) == (12 * COST, 12)


def test_a_batch_is_paid_by_the_budget_that_sent_it(ledger: Ledger, server: BatchServer):
    first = Budget(usd=1000, payer="a study")
    stopped_run(ledger, server, 5, first, **DEAR)
    other = Budget(usd=1000, payer="another")
    with open_teacher(settings(server, **DEAR), ledger, budget=other) as teacher:
        asked(teacher, examples(7))
    assert other.spent.usd == 2 * COST


def test_what_nobody_asks_for_any_more_is_paid_all_the_same(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    stopped_run(ledger, server, 5, budget, **DEAR)
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        asked(teacher, examples(1))
    assert budget.spent.usd == 5 * COST


def test_two_teachers_of_one_budget_settle_a_batch_once(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=10_000, payer="a study")
    server.is_held = True
    with (
        open_teacher(settings(server, **DEAR), ledger, budget=budget) as one,
        open_teacher(settings(server, timeout_s=99, **DEAR), ledger, budget=budget) as other,
    ):
        threads = [
            Thread(target=asked, args=(one, examples(5))),
            Thread(target=asked, args=(other, examples(2, start=5))),
        ]
        for thread, batches in zip(threads, (1, 2), strict=True):
            thread.start()
            wait_until(lambda: len(server.batches) == batches)  # noqa: B023
        server.is_held = False
        for thread in threads:
            thread.join()
    assert budget.spent.usd == pytest.approx(7 * COST)


def test_a_batch_that_cannot_be_looked_at_stays_counted(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    stopped_run(ledger, server, 5, budget, **DEAR)
    before = budget.spent
    server.faults = [401] * 3
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher, pytest.raises(TeacherError):
        asked(teacher, examples(5))
    assert budget.spent == before
    server.faults = []
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        asked(teacher, examples(5))
    assert budget.spent.usd == 5 * COST


def test_what_an_earlier_run_left_makes_room_for_other_rows(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    stopped_run(ledger, server, 5, budget, **DEAR)
    assert budget.spent.usd > 500
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        kept, _ = asked(teacher, examples(5, start=100))
    assert (len(kept), ledger.info().replies, budget.spent.usd) == (5, 10, 10 * COST)


def test_a_look_at_what_was_left_that_fails_ends_the_run(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    stopped_run(ledger, server, 5, budget, **DEAR)
    before, server.faults = budget.spent, [401] * 9
    budget.usd = before.usd + 1
    with (
        open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher,
        pytest.raises(TeacherError, match="key"),
    ):
        asked(teacher, examples(5, start=100))
    assert budget.spent == before


def test_a_batch_that_was_never_made_costs_nothing(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    server.hangs_at = "before create"
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        thread = Thread(target=ask_till_closed, args=(teacher, 5))
        thread.start()
        wait_until(lambda: server.hangs > 0)
    thread.join()
    assert budget.spent.usd > 500, "it may have been made"
    server.hangs_at = ""
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        kept, _ = asked(teacher, examples(5, start=100))
    assert (len(kept), ledger.info().replies, budget.spent.usd) == (5, 5, 5 * COST)


def test_a_wall_is_a_wall_where_only_one_of_two_teachers_knows_the_price(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    with (
        open_teacher(settings(server), ledger) as first,
        open_teacher(settings(server, **DEAR), ledger, budget=budget) as second,
    ):
        asked(first, examples(1))
        asked(second, examples(6))
    assert budget.spent.usd == 6 * COST, "sampling differs, so that they share nothing but their place"


def test_what_an_older_batch_refused_meanwhile_is_not_sent_again(
    ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch
):
    server.refuse = {"row 1;": 400}
    stopped_run(ledger, server, 3)
    monkeypatch.setattr(Batch, "quiet_s", 1.0)  # the older one is over before that
    with open_teacher(settings(server), ledger) as teacher:
        kept, dropped = asked(teacher, examples(4))
    assert ([row.id for row in kept], [row.reason for row in dropped]) == (["e0", "e2", "e3"], ["bad_request"])
    assert server.sizes == [3, 1]


def test_what_an_expired_or_failed_batch_left_costs_nothing(ledger: Ledger, server: BatchServer):
    budget = Budget(usd=1000, payer="a study")
    server.endings = ["expired", "failed"]
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher, pytest.raises(TeacherError):
        asked(teacher, examples(4))
    assert budget.spent.usd == 2 * COST
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        asked(teacher, examples(4))
    assert budget.spent.usd == 4 * COST


def test_what_found_no_room_at_the_provider_is_not_out(ledger: Ledger, server: BatchServer):
    server.room = 5
    budget = Budget(usd=2000, payer="a study")
    stopped_run(ledger, server, 5, budget, **DEAR)
    first, server.is_held = budget.spent, True
    said: list[str] = []
    with open_teacher(settings(server, **DEAR), ledger, budget=budget, say=said.append) as teacher:
        thread = Thread(target=ask_till_closed, args=(teacher, 8))
        thread.start()
        wait_until(lambda: "takes no more for now" in " ".join(said))
    thread.join()
    assert budget.spent == first


def test_what_was_not_sent_yet_when_a_run_ended_costs_nothing(
    ledger: Ledger, server: BatchServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Batch, "quiet_s", 60.0)
    budget = Budget(usd=1000, payer="a study")
    with open_teacher(settings(server, **DEAR), ledger, budget=budget) as teacher:
        thread = Thread(target=ask_till_closed, args=(teacher, 5))
        thread.start()
        wait_until(lambda: teacher.asking().in_flight == 5)
    thread.join()
    assert (budget.spent, server.uploads, ledger.info().failures) == (Spending(), 0, 0)


def test_a_batch_that_is_gone_is_asked_again(ledger: Ledger, server: BatchServer):
    stopped_run(ledger, server, 5)
    server.batches.clear()
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="set the key"):
        asked(teacher, examples(5))
    assert server.uploads == 1
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(5))[0]) == 5
    assert server.uploads == 2


def test_a_file_that_is_not_there_yet_is_looked_for_again(ledger: Ledger, server: BatchServer):
    server.late_files = 5
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(5))[0]) == 5
    server.nameless = 5
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(5, start=5))[0]) == 5
    assert server.sizes == [5, 5]


def test_a_file_that_is_gone_is_paid_again_where_somebody_has_heard_of_it(ledger: Ledger, server: BatchServer):
    server.late_files = 16
    with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="pay for them again"):
        asked(teacher, examples(5))
    assert server.sizes == [5]
    with open_teacher(settings(server), ledger) as teacher:
        assert len(asked(teacher, examples(5))[0]) == 5
    assert server.sizes == [5, 5]


def test_a_batch_that_was_unknown_now_and_then_is_there(ledger: Ledger, server: BatchServer):
    stopped_run(ledger, server, 5)
    server.is_held, server.unknown_looks = True, {3, 4, *range(6, 40, 2)}
    with open_teacher(settings(server), ledger) as teacher:
        thread = Thread(target=asked, args=(teacher, examples(5)))
        thread.start()
        wait_until(lambda: server.looks > 40)
        server.is_held = False
        thread.join()
    assert server.sizes == [5]


def test_a_batch_that_is_there_again_is_not_paid_again_when_it_goes_away(ledger: Ledger, server: BatchServer):
    stopped_run(ledger, server, 5)
    for _ in range(2):
        kept = dict(server.batches)
        server.batches.clear()
        with open_teacher(settings(server), ledger) as teacher, pytest.raises(TeacherError, match="set the key"):
            asked(teacher, examples(5))
        server.batches |= kept
        stopped_run(ledger, server, 5)
    assert server.uploads == 1


def test_two_at_once_wait_for_one_batch(tmp_path: Path, server: BatchServer):
    kept: list[Any] = []

    def run() -> None:
        with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(settings(server), ledger) as teacher:
            kept.append(asked(teacher, examples(20))[0])

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(rows) for rows in kept] == [20, 20]
    assert (server.requests, server.doubles) == (20, 0)


def test_no_file_holds_a_secret(tmp_path: Path, server: BatchServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.echo_headers, server.faults, server.refuse = True, [500], {"row 1;": 400}
    server.answer = lambda messages: f"I was sent {server.headers[-1]} and {PASSWORD}"
    said: list[str] = []
    url = f"{server.base_url}?key={PASSWORD}"
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        with open_teacher(settings(server, base_url=url), ledger, say=said.append) as teacher:
            kept, dropped = asked(teacher, examples(4))
        assert "Authorization" in str(kept[0].target), "the plant must be there to be found"
        server.endings, server.faults = ["failed"], [401] * 3
        with open_teacher(settings(server, base_url=url), ledger) as teacher, pytest.raises(TeacherError) as caught:
            asked(teacher, examples(3, start=4))
        assert "key=" not in "".join(path.name for path in tmp_path.iterdir())
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert clean(kept, dropped, caught.value, said)
    assert_no_file_holds_a_secret(tmp_path)


RUN = """
import sys
from asking import examples, parse, prompt
from understudy.teachers import Ledger, TeacherSettings, ask, open_teacher
from understudy.teachers.backends.batch import Batch

Batch.quiet_s = 0.05
ledger, base_url, out = sys.argv[1:]
settings = TeacherSettings(backend="batch", model="tiny", base_url=base_url, poll_s=0.02)
with Ledger.open(ledger) as ledger, open_teacher(settings, ledger) as teacher, open(out, "w") as file:
    for row in ask(teacher, examples(50), prompt, parse):
        print(row.id, row.target, file=file, flush=True)
"""


def start(tmp_path: Path, server: BatchServer) -> subprocess.Popen[bytes]:
    arguments = [str(tmp_path / "ledger.sqlite3"), server.base_url, str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments], env=environment, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c
    )


@pytest.mark.parametrize(
    ("moment", "uploads"),
    [("upload", 1), ("before create", 2), ("after create", 1), ("polling", 1), ("content", 1)],
)
def test_a_kill_at_any_moment_pays_for_nothing_twice(tmp_path: Path, server: BatchServer, moment: str, uploads: int):
    server.hangs_at, server.is_held = moment, moment == "polling"
    run = start(tmp_path, server)
    wait_until(lambda: server.hangs > 0 or (moment == "polling" and is_under_way(server)), run)
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    server.hangs_at, server.is_held = "", False
    _, errors = start(tmp_path, server).communicate(timeout=60)
    assert errors == b""
    lines = (tmp_path / "out").read_text().splitlines()
    assert lines == [f"e{i} ROW {i};" for i in range(50)]
    assert (server.sizes, server.requests, server.uploads) == ([50], 50, uploads)


def test_ctrl_c_stops_at_once_and_the_batch_goes_on(tmp_path: Path, server: BatchServer):
    server.is_held = True
    run = start(tmp_path, server)
    wait_until(lambda: is_under_way(server), run)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=10)
    assert b"KeyboardInterrupt" in errors
    server.is_held = False
    assert start(tmp_path, server).communicate(timeout=60)[1] == b""
    assert server.sizes == [50]
