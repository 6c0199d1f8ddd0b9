"""Asking a teacher over a real connection: order, samples, sharing, what comes out and what is counted."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from asking import Live, asked, examples, parse, prompt
from servers import ChatServer

from understudy.errors import DataError, ParseError, SettingsError, TeacherError
from understudy.records import Dropped, Example, Row
from understudy.teachers import Ledger, Parse, Teacher, ask, close_all, open_teacher
from understudy.teachers.engine import engine
from understudy.workspace.rows import write_rows


def test_rows_leave_in_the_order_in_which_they_came(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.01
    server.faults = [500, 503]  # the first rows come late
    with open_teacher(live(concurrency=8), ledger) as teacher:
        kept, dropped = asked(teacher, examples(300))
    assert [row.id for row in kept] == [f"e{i}" for i in range(300)]
    assert all(row.target == row.input.upper() for row in kept)
    assert dropped == []
    assert 2 <= server.most_in_flight <= 8


def test_each_sample_is_a_row_with_an_id_and_a_reply_of_its_own(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(sampling={"temperature": 1, "seed": 7}), ledger) as teacher:
        kept, _ = asked(teacher, examples(2), n=3)
    assert [row.id for row in kept] == [f"e{i}+loud.{s}" for i in range(2) for s in range(3)]
    assert [row.parents for row in kept] == [("e0",)] * 3 + [("e1",)] * 3
    assert len({row.replies for row in kept}) == 6
    assert sorted(body["seed"] for body in server.bodies) == [7, 7, 8, 8, 9, 9]


def test_a_reply_can_be_found_again_by_the_key_in_its_row(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(price={"input": 1, "output": 2}), ledger) as teacher:
        (row,), _ = asked(teacher, examples(1))
    entry = ledger.get(row.replies[0])
    assert entry is not None
    assert entry.reply.text == "ROW 0;"
    assert entry.request.messages == prompt(Example(id="", input="row 0;"))
    assert entry.price is not None
    assert entry.reply.usd == pytest.approx((10 * 1 + 5 * 2) / 1e6)


def test_the_second_run_asks_nothing(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(), ledger) as teacher:
        first = asked(teacher, examples(50))
    with open_teacher(live(concurrency=3, timeout_s=9), ledger) as teacher:
        second = asked(teacher, examples(50))
        usage = teacher.usage()
    assert first == second
    assert server.requests == 50
    assert (usage.requests, usage.from_ledger, usage.attempts, usage.prompt_tokens) == (0, 50, 0, 500)


def test_two_asks_of_one_endpoint_overlap_and_share_its_limit(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.02
    first_rows: list[Iterator[object]] = []
    with open_teacher(live(concurrency=4), ledger) as one, open_teacher(live(concurrency=4), ledger) as two:
        rows = [ask(one, examples(40), prompt, parse), ask(two.with_sampling(top_p=0.5), examples(40), prompt, parse)]
        threads = [threading.Thread(target=lambda r=r: first_rows.append(list(r))) for r in rows]  # type: ignore[misc]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    kinds = ["top_p" in body for body in server.bodies]
    assert server.most_in_flight == 4
    assert len(kinds) == 80
    assert len(set(kinds[:60])) == 2, "the second ask must not wait for the end of the first"


def test_equal_requests_in_flight_are_sent_once(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.05
    same = [Example(id=f"s{i}", input="the same") for i in range(30)]
    results: list[list[Example]] = []
    with open_teacher(live(), ledger) as teacher:
        threads = [threading.Thread(target=lambda: results.append(asked(teacher, same)[0])) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        usage = teacher.usage()
    assert server.requests == 1
    assert [len(rows) for rows in results] == [30, 30, 30]
    assert (usage.requests, usage.from_ledger) == (1, 89)


def test_one_ask_may_feed_another(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(concurrency=2), ledger) as teacher:
        first = ask(teacher, examples(100), prompt, parse, step="first")
        again = (row.replace(input=f"{row.target}!") for row in first if isinstance(row, Example))
        kept, _ = asked(teacher, again)
    assert [row.target for row in kept] == [f"ROW {i};!" for i in range(100)]
    assert all(len(row.replies) == 2 for row in kept)


def test_what_parse_refuses_is_dropped_with_its_reply(ledger: Ledger, live: Live):
    def parts(example: Example, reply: str) -> Iterator[Row]:
        number = int(example.id[1:])
        if number == 1:
            raise ParseError("odd", "no odd rows")
        yield from (example.child("part", part) for part in range(number))
        if number == 2:
            yield Dropped(example.child("part", "bad"), "loud", "not_a_part")

    with open_teacher(live(), ledger) as teacher:
        rows = list(ask(teacher, examples(3), prompt, parts, step="loud"))
    reasons = [(row.example.id, row.reason) for row in rows if isinstance(row, Dropped)]
    assert reasons == [("e0", "nothing_parsed"), ("e1", "odd"), ("e2+part.bad", "not_a_part")]
    assert [row.id for row in rows if isinstance(row, Example)] == ["e2+part.0", "e2+part.1"]
    assert all(len((row.example if isinstance(row, Dropped) else row).replies) == 1 for row in rows)


@pytest.mark.parametrize(
    ("finish_reason", "answer", "reason"),
    [("length", "half an ans", "cut_off"), ("content_filter", "", "content_refused"), ("stop", " \n", "empty_reply")],
)
def test_an_answer_that_is_none_is_dropped_and_not_asked_again(
    ledger: Ledger, server: ChatServer, live: Live, finish_reason: str, answer: str, reason: str
):
    server.finish_reason, server.answer = finish_reason, answer
    for _ in range(2):
        with open_teacher(live(), ledger) as teacher:
            _, dropped = asked(teacher, examples(3))
        assert [row.reason for row in dropped] == [reason] * 3
    assert server.requests == 3


def test_handles_count_for_themselves_and_for_the_teacher(ledger: Ledger, live: Live):
    with open_teacher(live(price={"input": 1, "output": 1}), ledger) as teacher:
        one, two = teacher.metered(), teacher.metered()
        asked(one, examples(5))
        asked(two.with_sampling(temperature=0), examples(3))
        asked(two, examples(2))
        assert (one.usage().requests, one.usage().from_ledger) == (5, 0)
        assert (two.usage().requests, two.usage().from_ledger) == (3, 2)
        assert teacher.usage().requests == 8
        assert two.usage().usd == pytest.approx(5 * 15 / 1e6)
        assert two.usage().spent_usd == pytest.approx(3 * 15 / 1e6)


def test_the_identity_says_who_answers_and_how_but_not_where(ledger: Ledger, live: Live):
    def identity(**changes: object) -> str:
        with open_teacher(live(**changes), ledger) as teacher:
            return teacher.identity

    assert identity() == identity(base_url="http://localhost:1/v1", concurrency=2, price={"input": 1, "output": 1})
    assert len({identity(), identity(sampling={"temperature": 0}), identity(name="other"), identity(model="m")}) == 4


def test_a_consumer_may_stop_early_and_ask_again(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.01
    with open_teacher(live(concurrency=4), ledger) as teacher:
        rows = ask(teacher, examples(1000), prompt, parse)
        for _ in range(10):
            next(rows)
        rows.close()  # type: ignore[attr-defined]
        time.sleep(0.1)
        after_stop = server.requests
        assert after_stop < 10 + 64 + 4, "what nobody waits for is not sent"
        kept, _ = asked(teacher, examples(after_stop))
    assert len(kept) == after_stop
    assert server.doubles == 0, "what was in flight landed in the ledger"


def test_an_error_in_the_source_or_the_reader_ends_the_ask_and_nothing_hangs(ledger: Ledger, live: Live):
    def broken() -> Iterator[Example]:
        yield from examples(100)
        raise DataError("file.jsonl:101: broken")

    def bad_parse(example: Example, reply: str) -> Example:
        raise KeyError("a bug")

    with open_teacher(live(), ledger) as teacher:
        with pytest.raises(DataError, match="jsonl:101"):
            asked(teacher, broken())
        with pytest.raises(KeyError, match="a bug"):
            list(ask(teacher, examples(9), prompt, bad_parse))


@pytest.mark.slow
def test_a_teacher_closed_by_another_thread_wakes_its_asker(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 30
    teacher = open_teacher(live(), ledger)
    closing = threading.Timer(0.2, teacher.close, kwargs={"hurry": True})
    closing.start()
    with pytest.raises(TeacherError, match="closed"):
        asked(teacher, examples(5))
    closing.join()
    with pytest.raises(TeacherError, match="closed"):
        asked(teacher, examples(5))


@pytest.mark.slow
def test_an_end_that_nobody_hurries_waits_for_what_is_paid_for(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(engine, "_DRAIN_S", 0.1)
    said: list[str] = []

    def broken(example: Example, text: str) -> Example:
        server.latency_s = 1.0
        for _ in range(200):
            if server.in_flight == 4:  # with the long latency by now
                raise ZeroDivisionError
            time.sleep(0.01)
        raise AssertionError("nothing is in flight")

    with open_teacher(live(concurrency=4), ledger, say=said.append) as teacher, pytest.raises(ZeroDivisionError):
        list(ask(teacher, examples(900), prompt, broken))
    assert ledger.info().replies == server.requests < 900
    assert [text for text in said if "waiting for 4 answers" in text and "120 s; Ctrl-C" in text] == said != []


@pytest.mark.slow
def test_what_is_given_up_after_it_was_sent_stands_in_the_ledger(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 30
    price = {"input": 1_000_000, "output": 2_000_000}

    def interrupted() -> None:
        with open_teacher(live(price=price, sampling={"max_tokens": 5}), ledger) as teacher:
            threading.Thread(target=ask_till_closed, args=(teacher, 3), daemon=True).start()
            while server.requests < 3:
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    found = ledger.info()
    assert (found.replies, found.failures) == (0, 3)
    assert found.failures_usd >= 3 * (10 + 2 * 5), "the most that they can have cost"


def ask_till_closed(teacher: Teacher, rows: int) -> None:
    with suppress(TeacherError):
        asked(teacher, examples(rows))


def test_no_samples_is_a_mistake(ledger: Ledger, live: Live):
    with open_teacher(live(), ledger) as teacher, pytest.raises(SettingsError, match="got 0"):
        ask(teacher, examples(1), prompt, parse, 0)


def test_a_teacher_that_only_renders_sends_nothing_and_counts(ledger: Ledger, server: ChatServer, live: Live):
    settings = live(price={"input": 1, "output": 2}, sampling={"max_tokens": 100})
    with open_teacher(settings, ledger) as teacher:
        asked(teacher, examples(4))
    with open_teacher(settings, ledger, render_only=True) as teacher:
        arm = teacher.metered()
        kept, dropped = asked(arm, examples(150))
        estimate = arm.estimate()
    assert kept == []
    assert {row.reason for row in dropped} == {"not_sent"}
    assert server.requests == 4
    assert (estimate.requests, estimate.in_ledger, estimate.completion_tokens) == (150, 4, 146 * 100)
    assert estimate.usd == pytest.approx((estimate.prompt_tokens + 2 * 14600) / 1e6)
    assert teacher.estimate() == estimate
    assert len(arm.rendered) == 100
    assert arm.rendered[1][-1] == {"role": "user", "content": "row 1;"}


@pytest.mark.parametrize(
    ("parse", "ids"),
    [
        (lambda row, reply: row.child("pp", input=reply), "{}+loud.{}+pp"),
        (lambda row, reply: row.replace(input=reply), "{}+loud.{}"),
        (lambda row, reply: Dropped(row.child("pp"), "loud", "no"), "{}+loud.{}+pp"),
    ],
)
def test_a_step_may_replace_its_rows_by_several_samples(
    tmp_path: Path, ledger: Ledger, live: Live, parse: Parse, ids: str
):
    rows = write_rows(tmp_path / "source", "source", None, examples(3), dict)
    with open_teacher(live(), ledger) as teacher:
        asks = ask(teacher, rows, prompt, parse, n=2, step="loud")
        made = write_rows(tmp_path / "loud", "loud", rows, asks, dict)
    left = [*made, *(row.example for row in made.dropped())]
    assert [row.id for row in left] == [ids.format(f"e{i}", s) for i in range(3) for s in range(2)]
    assert [row.parents for row in left] == [(f"e{i}",) for i in range(3) for _ in range(2)]
    assert (made.taken.made, made.taken.joined) == (6, 3)


def test_two_names_of_one_model_share_its_limit_in_turns(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.02
    one, two = live(concurrency=4, name="a"), live(concurrency=9, name="b", timeout_s=9)
    with open_teacher(one, ledger) as first, open_teacher(two, ledger) as second:
        threads = [threading.Thread(target=asked, args=(teacher, examples(40))) for teacher in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.most_in_flight == 4
    rows = [body["messages"][-1]["content"] for body in server.bodies]
    assert len(set(rows[:60])) < 60, "the second teacher must not wait for the end of the first"


def test_two_models_of_one_endpoint_have_limits_of_their_own(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.1
    with (
        open_teacher(live(concurrency=2, model="small"), ledger) as first,
        open_teacher(live(concurrency=3, model="large"), ledger) as second,
    ):
        threads = [threading.Thread(target=asked, args=(teacher, examples(9))) for teacher in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.most_in_flight == 5


def test_a_pause_holds_for_all_that_is_asked_of_the_model(ledger: Ledger, server: ChatServer, live: Live):
    server.faults, server.fault_headers = [429], {"Retry-After": "0.4"}
    with open_teacher(live(name="a"), ledger) as first, open_teacher(live(name="b"), ledger) as second:
        thread = threading.Thread(target=asked, args=(first, examples(1)))
        thread.start()
        while server.faults and thread.is_alive():
            time.sleep(0.01)
        time.sleep(0.1)  # the answer is on its way
        asked(second, examples(1))
        thread.join()
    assert all(later - server.times[0] >= 0.4 for later in server.times[1:])


def test_teachers_that_close_side_by_side_wait_for_one_another(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 0.3
    busy, idle = open_teacher(live(concurrency=4), ledger), open_teacher(live(name="other"), ledger)
    next(ask(busy, examples(100), prompt, parse))  # the next ones are in flight now
    closing = threading.Thread(target=close_all, args=([busy, idle],), daemon=True)
    closing.start()
    closing.join(timeout=20)
    assert not closing.is_alive()
    assert ledger.info().replies == server.requests, "what was in flight landed"


@pytest.mark.slow
def test_each_teacher_waits_as_long_as_it_says_and_its_end_is_not_the_others(
    ledger: Ledger, server: ChatServer, live: Live
):
    server.latency_s = 0.6
    with open_teacher(live(concurrency=2), ledger) as patient:
        with open_teacher(live(timeout_s=0.1, retries=0, name="b"), ledger) as hasty, pytest.raises(TeacherError):
            asked(hasty, examples(1))
        thread = threading.Thread(target=asked, args=(patient, examples(3)))
        with open_teacher(live(name="c"), ledger) as other:
            rows = ask(other, examples(9, start=9), prompt, parse)
            thread.start()
            next(rows)
        thread.join()
    assert patient.usage().requests == 3


@pytest.mark.slow
def test_what_one_teacher_gives_up_another_one_still_answers(ledger: Ledger, server: ChatServer, live: Live):
    """Two places of one model: equal requests go to the first; when it is closed they go to the second."""
    with ChatServer(latency_s=30, answer="late") as slow:
        first = open_teacher(live(base_url=slow.base_url, concurrency=4), ledger)
        failed: list[BaseException] = []

        def give_up() -> None:
            try:
                asked(first, examples(8))
            except TeacherError as error:
                failed.append(error)

        thread = threading.Thread(target=give_up)
        thread.start()
        while slow.requests < 4:
            time.sleep(0.01)
        threading.Timer(0.3, first.close, kwargs={"hurry": True}).start()
        with open_teacher(live(), ledger) as second:
            kept, dropped = asked(second, examples(8))
        thread.join()
    assert ([row.target for row in kept], dropped) == ([f"ROW {i};" for i in range(8)], [])
    assert len(failed) == 1


@pytest.mark.slow
def test_a_ledger_that_somebody_else_writes_to_is_waited_for(ledger: Ledger, server: ChatServer, live: Live):
    other = sqlite3.connect(ledger.path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(1.0, lambda: other.execute("COMMIT")).start()
    with open_teacher(live(timeout_s=0.5, retries=0), ledger) as teacher:
        kept, dropped = asked(teacher, examples(100))
    other.close()
    assert (len(kept), dropped) == (100, [])
    assert server.doubles == 0
