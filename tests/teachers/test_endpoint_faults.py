"""What an endpoint can do wrong, and what becomes of the rows."""

from __future__ import annotations

import asyncio
import errno
import socket
from itertools import count
from typing import Any

import pytest
from aiohappyeyeballs import start_connection
from asking import Live, asked, examples
from servers import ChatServer

from understudy.errors import SettingsError, TeacherError
from understudy.teachers import Ledger, open_teacher
from understudy.teachers.backends.chat import same_model
from understudy.teachers.engine import pace


def test_being_told_to_slow_down_delays_and_never_drops(ledger: Ledger, server: ChatServer, live: Live):
    server.faults, server.fault_headers = [429], {"Retry-After": "0.4"}
    with open_teacher(live(retries=0, concurrency=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(3))
        usage = teacher.usage()
    assert (len(kept), dropped) == (3, [])
    assert server.times[1] - server.times[0] >= 0.4
    assert (usage.requests, usage.attempts) == (3, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "raw",
    [b'{"choices": [{"mess', b"<html>", b'{"choices": []}', b"null", b'{"choices": [{"message": {"content": 1}}]}'],
)
def test_a_malformed_body_is_asked_again(ledger: Ledger, server: ChatServer, live: Live, raw: bytes):
    server.raw = [raw]
    with open_teacher(live(), ledger) as teacher:
        kept, _ = asked(teacher, examples(1))
    assert kept[0].target == "ROW 0;"
    assert server.requests == 2


def test_a_status_inside_a_good_body_counts(ledger: Ledger, server: ChatServer, live: Live):
    server.raw = [b'{"error": {"code": 503, "message": "upstream"}}', b'{"error": {"code": 400, "message": "no"}}']
    with open_teacher(live(concurrency=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(2))
    assert len(kept) == 1
    assert [(row.reason, row.detail) for row in dropped] == [("bad_request", "400: no")]


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, None, "bad_request"),
        (400, {"error": {"message": "This model's maximum context length is 8 tokens"}}, "too_long"),
        (400, {"error": {"message": "no", "code": "content_filter"}}, "content_refused"),
        (403, None, "forbidden"),
        (413, None, "too_long"),
        (422, {"detail": "no such role"}, "unprocessable"),
    ],
)
def test_a_permanent_failure_drops_its_row_only(
    ledger: Ledger, server: ChatServer, live: Live, status: int, body: object, reason: str
):
    server.refuse, server.fault_body = {"row 2;": status}, body
    with open_teacher(live(), ledger) as teacher:
        kept, dropped = asked(teacher, examples(5))
    assert [row.id for row in kept] == ["e0", "e1", "e3", "e4"]
    assert [(row.example.id, row.step, row.reason) for row in dropped] == [("e2", "loud", reason)]
    assert str(status) in dropped[0].detail


def test_retries_end(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {"row 1;": 500}
    with open_teacher(live(retries=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(3))
    assert len(kept) == 2
    assert dropped[0].reason == "server_error"
    assert "given up after 2 attempts" in dropped[0].detail
    assert server.requests == 4


def test_an_answer_that_does_not_come_is_dropped(ledger: Ledger, server: ChatServer, live: Live):
    with open_teacher(live(retries=0, timeout_s=0.2), ledger) as teacher:
        asked(teacher, examples(1, start=1))  # the endpoint works
        server.latency_s = 5
        _, dropped = asked(teacher, examples(1))
    assert (dropped[0].reason, dropped[0].detail) == (
        "timed_out",
        "given up after 1 attempts: no answer within timeout_s: 0.2",
    )


def test_an_endpoint_that_never_answers_ends_the_run(ledger: Ledger, server: ChatServer, live: Live):
    server.latency_s = 5
    with (
        open_teacher(live(retries=0, timeout_s=0.2), ledger) as teacher,
        pytest.raises(TeacherError, match="timeout_s"),
    ):
        asked(teacher, examples(3))


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (401, None, "export OPENAI_API_KEY"),
        (402, None, "account"),
        (404, None, "teacher.model ('tiny')"),
        (429, {"error": {"message": "pay", "code": "insufficient_quota"}}, "account"),
        (307, None, "redirects"),
    ],
)
def test_what_no_retry_can_mend_ends_the_run(
    ledger: Ledger, server: ChatServer, live: Live, status: int, body: object, says: str
):
    server.faults, server.fault_body = [status] * 99, body
    with open_teacher(live(), ledger) as teacher, pytest.raises(TeacherError) as caught:
        asked(teacher, examples(500))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.requests <= 64


def test_nobody_there_ends_the_run_before_anything_is_spent(ledger: Ledger, live: Live):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with (
            open_teacher(live(base_url=url), ledger) as teacher,
            pytest.raises(TeacherError, match="nothing was spent"),
        ):
            asked(teacher, examples(5))


def test_a_server_that_goes_away_ends_the_run_and_keeps_what_came(ledger: Ledger, live: Live):
    with ChatServer() as server, open_teacher(live(base_url=server.base_url, retries=0), ledger) as teacher:
        assert len(asked(teacher, examples(3))[0]) == 3
        server.stop()
        with pytest.raises(TeacherError, match="stopped answering"):
            asked(teacher, examples(3, start=3))
    assert ledger.info().replies == 3


def test_a_missing_key_is_said_before_anything_is_sent(ledger: Ledger, live: Live, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SettingsError, match="export MY_KEY"):
        open_teacher(live(base_url="https://api.example.org/v1", api_key_env="MY_KEY"), ledger)
    with open_teacher(live(base_url="https://api.example.org/v1"), ledger, render_only=True):
        pass  # to look at prompts takes no key
    monkeypatch.setenv("OPENAI_BASE_URL", "nonsense")
    with pytest.raises(SettingsError, match="http://localhost:8000/v1"):
        open_teacher(live(base_url=None), ledger)


def test_the_key_and_the_address_come_from_the_environment(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url + "/")
    monkeypatch.setenv("MY_KEY", "a-key-with-a-line-end\n")
    with open_teacher(live(base_url=None, api_key_env="MY_KEY"), ledger) as teacher:
        asked(teacher, examples(1))
    assert server.headers[0]["Authorization"] == "Bearer a-key-with-a-line-end"


def test_only_the_parameters_that_are_set_are_sent(ledger: Ledger, server: ChatServer, live: Live):
    sampling = {"temperature": 0, "stop": "\n", "extra": {"top_k": 3}}
    with open_teacher(live(sampling=sampling), ledger) as teacher:
        asked(teacher, examples(1))
        asked(teacher.with_sampling(temperature=None, stop=None, extra={}), examples(1))
    assert [sorted(body.keys() - {"model", "messages"}) for body in server.bodies] == [
        ["stop", "temperature", "top_k"],
        [],
    ]


def test_a_reply_that_names_another_model_is_refused(ledger: Ledger, server: ChatServer, live: Live):
    server.model = "other-7b"
    with open_teacher(live(), ledger) as teacher, pytest.raises(TeacherError) as caught:
        asked(teacher, examples(1))
    assert "'tiny'" in str(caught.value)
    assert "'other-7b'" in str(caught.value)
    assert ledger.info().failures == 1, "it was answered, and perhaps billed"
    with open_teacher(live(name="other-7b"), ledger) as teacher:
        assert len(asked(teacher, examples(1))[0]) == 1


@pytest.mark.parametrize(
    ("asked_for", "answered"),
    [
        ("gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        ("gpt-4", "gpt-4-0613"),
        ("mistral-large-latest", "mistral-large-2411"),
        ("org/Name-7B", "name-7b"),
        ("llama3", "llama3:latest"),
        ("name", "/models/name.gguf"),
        ("models/x", "x"),
        ("org/tiny", "org/tiny@main"),
        ("anthropic.claude-x", "anthropic.claude-x-v1:0"),
    ],
)
def test_two_names_of_one_model(asked_for: str, answered: str):
    assert same_model(asked_for, answered)
    assert same_model(answered, asked_for)


@pytest.mark.parametrize(
    ("asked_for", "answered"),
    [
        ("gpt-4o", "gpt-4o-mini"),
        ("gpt-4", "gpt-4.1"),
        ("qwen2.5-7b-instruct", "qwen2.5-14b-instruct"),
        ("llama3:8b", "llama3:70b"),
        ("gpt-4", "gpt-3.5-turbo"),
        ("deepseek-v2", "deepseek-v3"),
        ("gpt-4-0613", "gpt-4-1106-preview"),
    ],
)
def test_names_of_two_models(asked_for: str, answered: str):
    assert not same_model(asked_for, answered)
    assert not same_model(answered, asked_for)


@pytest.mark.parametrize("rows", [2, 500])
@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, r"\(400: temp\? no\); check teacher\.sampling"),
        (422, "check teacher"),
        (403, "export OPENAI_API_KEY"),
    ],
)
def test_an_endpoint_that_refuses_everything_ends_the_run(
    ledger: Ledger, server: ChatServer, live: Live, rows: int, status: int, says: str
):
    server.faults, server.fault_body = [status] * 999, {"error": {"message": "temp? no"}}
    server.latency_s = 0.02  # so that the first ones are answered together, and not the last of them after later ones
    with open_teacher(live(concurrency=8), ledger) as teacher, pytest.raises(TeacherError, match=says) as caught:
        asked(teacher, examples(rows))
    assert server.base_url in str(caught.value)
    assert server.requests <= 16


def test_the_first_rows_may_be_refused_for_what_they_are(ledger: Ledger, server: ChatServer, live: Live):
    server.refuse = {f"row {i};": 400 for i in range(7)}
    with open_teacher(live(concurrency=1), ledger) as teacher:
        kept, dropped = asked(teacher, examples(20))
        assert (len(kept), len(dropped)) == (13, 7)
        server.refuse = {"row": 400}
        assert len(asked(teacher, examples(20, start=20))[1]) == 20, "it has answered before"
    with open_teacher(live(), ledger) as teacher:
        assert len(asked(teacher, examples(20))[1]) == 7, "it has answered in an earlier run"
    server.fault_body = {"error": {"message": "no", "code": "content_filter"}}
    with open_teacher(live(name="b"), ledger) as teacher:
        assert len(asked(teacher, examples(20))[1]) == 20, "to look at a text and refuse it is an answer too"


@pytest.mark.slow
def test_a_pause_is_said_once(ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "_WORTH_SAYING_S", 0.3)
    said: list[str] = []
    server.faults, server.fault_headers = [429] * 8, {"Retry-After": "0.6"}
    with open_teacher(live(concurrency=8), ledger, say=said.append) as teacher:
        asked(teacher.with_sampling(seed=1), examples(30))
        server.faults, server.fault_headers = [429], {"Retry-After": "0.1"}
        asked(teacher, examples(1))
    assert said == [f"the endpoint {server.base_url} asks us to wait 1 s"]


@pytest.mark.parametrize(
    ("status", "said", "headers"),
    [(529, "Overloaded", {}), (503, "the server is busy, too many requests", {}), (503, "", {"Retry-After": "0.01"})],
)
def test_overload_is_no_fault_of_the_row_whatever_its_status(
    ledger: Ledger, server: ChatServer, live: Live, status: int, said: str, headers: dict[str, str]
):
    server.faults, server.fault_headers, server.fault_body = [status] * 12, headers, {"error": {"message": said}}
    with open_teacher(live(retries=0, concurrency=4), ledger) as teacher:
        kept, dropped = asked(teacher, examples(8))
    assert (len(kept), dropped) == (8, [])
    assert ledger.info().failures == 0


def test_a_connection_refused_beside_others_is_no_end(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    """Where a few connections are refused and others were made, the endpoint is there."""
    asked_for, made, refused = count(), [], []

    async def start(*given: Any, **more: Any) -> socket.socket:
        if next(asked_for) in (6, 7):
            while len(made) < 6:
                await asyncio.sleep(0.05)
            refused.append(1)
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        connection = await start_connection(*given, **more)
        made.append(1)
        return connection

    server.latency_s = 0.5
    monkeypatch.setattr("understudy.teachers.backends.http.start_connection", start)
    with open_teacher(live(concurrency=8), ledger) as teacher:
        kept, _ = asked(teacher, examples(8))
    assert (len(kept), len(refused)) == (8, 2)


@pytest.mark.parametrize("status", [429, 503])
def test_a_pause_beyond_all_patience_is_not_waited(ledger: Ledger, server: ChatServer, live: Live, status: int):
    server.faults, server.fault_headers = [status] * 99, {"Retry-After": "9999"}
    with open_teacher(live(), ledger) as teacher, pytest.raises(TeacherError, match="wants 9999 s more") as caught:
        asked(teacher, examples(3))
    assert "run the same command later" in str(caught.value)


@pytest.mark.slow
def test_nothing_but_overload_ends_the_run(
    ledger: Ledger, server: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pace, "_PATIENCE_S", 0.5)
    server.faults, server.fault_headers = [429] * 9999, {"Retry-After": "0.02"}
    with open_teacher(live(concurrency=1), ledger) as teacher, pytest.raises(TeacherError, match="has put us off for"):
        asked(teacher, examples(3))

    def answer(messages: object) -> str:
        server.faults = [429, 429]
        return "yes"

    server.faults, server.answer = [429], answer
    with open_teacher(live(concurrency=1), ledger) as teacher:
        assert len(asked(teacher, examples(30))[0]) == 30, "an answer now and then is enough"
    assert server.times[-1] - server.times[-80] > 0.5
