"""What an endpoint can do, found out by asking it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from asking import Live
from servers import ChatServer

from understudy.errors import SettingsError
from understudy.teachers import check
from understudy.teachers.probe import Capabilities, probe

ABLE = Capabilities(n=True, schema=True, logprobs=True, usage=True, limits=True)


@pytest.fixture
def able(server: ChatServer) -> ChatServer:
    server.answer, server.logprobs = "yes", True
    server.answer_headers = {"x-ratelimit-remaining-requests": "59"}
    return server


def test_an_endpoint_that_can_everything(able: ChatServer, live: Live):
    assert probe(live()) == ABLE
    assert able.requests == 3


@pytest.mark.parametrize(
    ("switches", "found", "requests"),
    [
        ({"ignores_n": True}, {"n": False}, 3),
        ({"refuses_n": True}, {"n": False}, 4),
        ({"ignores_schema": True}, {"schema": False}, 3),
        ({"refuses_schema": 500}, {"schema": False}, 3),
        ({"logprobs": False}, {"logprobs": False}, 3),
        ({"usage": False}, {"usage": False}, 3),
        ({"answer_headers": {}}, {"limits": False}, 3),
    ],
)
def test_what_it_cannot_do_is_found(
    able: ChatServer, live: Live, switches: dict[str, Any], found: dict[str, bool], requests: int
):
    for name, value in switches.items():
        setattr(able, name, value)
    assert probe(live()) == replace(ABLE, **found)
    assert able.requests == requests


def test_it_is_asked_as_the_study_asks_only_shorter(able: ChatServer, live: Live):
    sampling = {"max_tokens": 4000, "temperature": 0, "stop": ["}"], "seed": 1, "extra": {"reasoning_effort": "low"}}
    probe(live(sampling=sampling))
    for body in able.bodies:
        assert body["max_tokens"] <= 64
        assert (body["seed"], body["reasoning_effort"]) == (1, "low")
        assert not body.keys() & {"temperature", "stop"}


def test_a_fault_that_may_pass_says_nothing_of_what_it_can_do(able: ChatServer, live: Live):
    able.refuse = {"": 429}
    found = probe(live())
    assert (found.n, found.schema, found.logprobs, found.usage) == (None, None, None, None)
    assert found.refused == '429: {"error": {"message": "made to fail with 429"}}'
    assert able.requests == 2


def test_no_secret_is_in_what_is_said(able: ChatServer, live: Live, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-that-nobody-may-see")
    able.refuse, able.echo_headers = {"": 400}, True
    assert "a-key" not in probe(live()).refused
    able.stop()
    assert probe(live()).refused


def test_a_missing_key_is_said_before_anything_is_asked(live: Live):
    with pytest.raises(SettingsError, match="MY_KEY"):
        probe(live(base_url="https://api.example.org/v1", api_key_env="MY_KEY"))


def test_doctor_tells_what_an_endpoint_can_do_where_it_is_asked_to(able: ChatServer, live: Live):
    able.ignores_n = True
    before = check(live())
    assert able.requests == 0
    assert check(live(), ask=True) == [
        *before,
        ("teacher n", True, "no; each sample is a request of its own"),
        ("teacher schema", True, "yes"),
        ("teacher logprobs", True, "yes"),
        ("teacher usage", True, "yes"),
        ("teacher limits", True, "yes"),
    ]
    assert ("teacher model", False, "'big' is not among tiny") in check(live(model="big"))
    answers = check(live(model="big"), ask=True)
    assert all(ok for _, ok, _ in answers), "it answers, so it is there, whatever is listed"
    able.refuse = {"": 404}
    refused = check(live(model="big"), ask=True)
    assert [what for what, ok, _ in refused if not ok] == ["teacher model", "teacher answer"]
