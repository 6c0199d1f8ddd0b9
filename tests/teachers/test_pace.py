"""How fast an endpoint is asked: it is told to slow down, is limited by the minute, or is down."""

from __future__ import annotations

import re
import threading
import time

import pytest
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import TeacherError
from understudy.teachers import Ledger, TeacherSettings, open_teacher
from understudy.teachers.engine import pace

pytestmark = pytest.mark.slow  # many small waits


def test_the_limit_falls_by_a_quarter_and_recovers_step_by_step(ledger: Ledger, server: ChatServer, live: Live):
    server.faults = [429] * 8  # all that is in flight is told so: one cut
    with open_teacher(live(concurrency=8), ledger) as teacher:
        kept, dropped = asked(teacher, examples(20))
        assert (len(kept), dropped) == (20, [])
        assert teacher.asking().limit == 6
        asked(teacher, examples(10, start=20))
        assert teacher.asking().limit == 7
        asked(teacher, examples(99, start=30))
        assert teacher.asking().limit == 8, "never above what is set"


def test_requests_a_minute_are_kept(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(requests_per_minute=1200), ledger) as teacher:
        assert len(asked(teacher, examples(50))[0]) == 50
    for first, later in zip(server.times, server.times[40:], strict=False):
        assert later - first > 0.9, "40 of them take two seconds, of which one may be ahead"


def test_tokens_a_minute_are_kept(ledger: Ledger, server: ChatServer, live: Live):
    server.prompt_tokens, server.completion_tokens = 60, 40
    with open_teacher(live(tokens_per_minute=60_000, concurrency=1), ledger) as teacher:  # 10 requests a second
        assert len(asked(teacher, examples(30))[0]) == 30
    assert server.times[-1] - server.times[0] > 1.5


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"},
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0.3s"},
    ],
)
def test_a_limit_that_is_used_up_is_waited_for(ledger: Ledger, server: ChatServer, live: Live, headers: dict[str, str]):
    server.answer_headers = headers
    with open_teacher(live(concurrency=1), ledger) as teacher:
        kept, _ = asked(teacher, examples(3))
    assert len(kept) == 3
    assert all(later - first >= 0.3 for first, later in zip(server.times, server.times[1:], strict=False))


def test_an_endpoint_that_is_down_for_a_while_costs_no_retries(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pace, "_FIRST_REST_S", 0.4)
    monkeypatch.setattr(pace, "_WORTH_SAYING_S", 0.1)
    said: list[str] = []
    with open_teacher(live(concurrency=32, retries=1), ledger, say=said.append) as teacher:
        asked(teacher, examples(5))
        server.refuse = {"row": 500}
        threading.Timer(1.5, server.__setattr__, ("refuse", {})).start()
        kept, dropped = asked(teacher, examples(300, start=5))
    assert len(kept) + len(dropped) == 300
    assert len(dropped) <= 32, "only those who had failed before it was known"
    assert server.requests < 450, "it is tried now and then, not by everybody"
    assert "answers nothing (500: made to fail with 500); trying again in 0 s" in said[0]


def test_rows_that_fail_for_ever_at_the_end_are_dropped_and_hold_up_nobody(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pace, "_FIRST_REST_S", 0.2)
    monkeypatch.setattr(pace, "_DOUBT_S", 1.0)
    server.refuse = {f"row {i};": 500 for i in range(100, 140)}
    with open_teacher(live(retries=1, concurrency=8), ledger) as teacher:
        asked(teacher, examples(5))
        started = time.monotonic()
        kept, dropped = asked(teacher, examples(140))
        assert time.monotonic() - started < 30
    assert (len(kept), {row.reason for row in dropped}, len(dropped)) == (100, {"server_error"}, 40)


def test_an_endpoint_that_fails_everybody_ends_the_run(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pace, "_FIRST_REST_S", 0.2)
    monkeypatch.setattr(pace, "_DOUBT_S", 0.5)
    with open_teacher(live(retries=0), ledger) as teacher:
        asked(teacher, examples(100))
        server.refuse = {"row": 500}
        with pytest.raises(TeacherError, match=r"\d\d requests to .* in a row were given up"):
            asked(teacher, examples(900, start=100))
    assert ledger.info().replies == 100


def test_a_server_that_is_restarted_is_waited_for(ledger: Ledger, live: Live, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "_FIRST_REST_S", 0.3)
    with ChatServer() as server, open_teacher(live(base_url=server.base_url, retries=2), ledger) as teacher:
        assert len(asked(teacher, examples(3))[0]) == 3
        server.stop()

        def again() -> None:
            with ChatServer(port=server.port):
                is_done.wait(20)

        is_done = threading.Event()
        thread = threading.Timer(1.0, again)
        thread.start()
        kept, dropped = asked(teacher, examples(100, start=3))
        is_done.set()
        thread.join()
    assert (len(kept), dropped) == (100, [])


def test_too_many_failures_end_the_run_with_the_commonest_errors(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"7;": 400, "8;": 422, "9;": 413}
    with open_teacher(live(max_failures=0.2, concurrency=4), ledger) as teacher, pytest.raises(TeacherError) as caught:
        asked(teacher, examples(1000))
    message = str(caught.value)
    counts = [int(count) for count in re.findall(r"(\d+) times", message)]
    assert min(counts) > 9, "what differs only in numbers is one error"
    assert all(f"times {said}" in message for said in ("bad_request", "unprocessable", "too_long"))
    assert "more than teacher.max_failures (0.2) allows" in message
    assert server.requests < 300
    kept = ledger.info().replies
    assert kept > 50, "and every reply is kept"
    settings = TeacherSettings(model="tiny", base_url=server.base_url, max_failures=0.5)
    with open_teacher(settings, ledger) as teacher:
        kept, dropped = asked(teacher, examples(1000))
    assert (len(kept), len(dropped)) == (700, 300)


def test_an_answer_that_stops_in_the_middle_is_asked_for_again(ledger: Ledger, live: Live):
    """A server that sends half of its first answer and keeps the connection open."""
    import socket

    body = b'{"model": "tiny", "choices": [{"message": {"content": "yes"}}], "usage": null}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    held: list[socket.socket] = []

    def serve(listening: socket.socket) -> None:
        for part in (body[:20], body):
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.sendall(head + part)
            held.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        with open_teacher(live(base_url=url, stall_timeout_s=0.2), ledger) as teacher:
            kept, _ = asked(teacher, examples(1))
        thread.join()
    for connection in held:
        connection.close()
    assert kept[0].target == "yes"
    info = ledger.info()
    assert (info.replies, info.failures) == (1, 1), "it may have been billed"
