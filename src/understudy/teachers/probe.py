"""What an endpoint can do, found out by asking it up to four tiny questions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson

from understudy.teachers.backends.address import Address
from understudy.teachers.backends.chat import json_of, text_in, text_of_bytes
from understudy.teachers.backends.http import Http, TimedOut, Unanswered
from understudy.teachers.settings import TeacherSettings

_TIMEOUT_S = 60.0  # a local server loads its model at the first question
_MESSAGES = [{"role": "user", "content": "Answer with the one word: yes"}]
_MOST_TOKENS = 64
_DETAIL = 300  # characters of a server's message that are kept
_NOT_ABOUT_IT = {401, 402, 403, 404, 408, 429, 503}  # an endpoint that fails so says nothing of what it can do


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint can do; ``None`` is what could not be found out."""

    n: bool | None = None
    """It answers ``n`` times in one call; many servers ignore that without a word."""
    schema: bool | None = None
    """Its answers keep to a JSON schema."""
    logprobs: bool | None = None
    """It sends the probabilities of its tokens."""
    usage: bool | None = None
    """It says how many tokens it counted."""
    limits: bool | None = None
    """It tells its rate limits in headers."""
    refused: str = ""
    """Why it gave no answer at all; empty where it gave one."""


def probe(settings: TeacherSettings) -> Capabilities:
    """Ask an openai endpoint what the study's teacher could ask it. Costs up to four short answers.

    Each wait ends after 60 s; nothing raises for what is wrong with the endpoint.

    Raises:
        SettingsError: the address or the key is none.
    """
    address = Address(settings)
    address.check_key()
    with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own in this one
        return thread.submit(asyncio.run, _probe(address, settings)).result()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int | None  # None: none came
    body: Any
    headers: Mapping[str, str]
    said: str

    @property
    def choices(self) -> list[Any]:
        choices = self.body.get("choices") if self.status == 200 and isinstance(self.body, dict) else None
        return choices if isinstance(choices, list) else []

    @property
    def is_refusal(self) -> bool:
        """Whether what was asked for is what it could not do."""
        return self.status is not None and self.status >= 400 and self.status not in _NOT_ABOUT_IT


async def _probe(address: Address, settings: TeacherSettings) -> Capabilities:
    from understudy.teachers.structured import PROBE_MESSAGES, PROBE_SCHEMA, obeys, response_format  # only here

    async with aclosing(address.http(_TIMEOUT_S)) as http:

        async def asked(messages: list[dict[str, str]] = _MESSAGES, **more: Any) -> _Answer:
            body = {"model": settings.model, "messages": messages, **_small(settings), **more}
            return await _ask(http, address, body)

        twice = plain = await asked(n=2)
        if not twice.choices:
            plain = await asked()
        if not plain.choices:
            return Capabilities(refused=plain.said)
        schema = await asked(PROBE_MESSAGES, response_format=response_format(PROBE_SCHEMA))
        logprobs = await asked(logprobs=True)
    return Capabilities(
        n=_can(twice, len(twice.choices) == 2),
        schema=_can(schema, obeys(_text(schema))),
        logprobs=_can(logprobs, any(choice.get("logprobs") for choice in logprobs.choices)),
        usage=bool(plain.body.get("usage")),
        limits=any("ratelimit" in name.lower() for name in plain.headers),
    )


def _small(settings: TeacherSettings) -> dict[str, Any]:
    """The parameters of the study, for short answers, without those that endpoints refuse beside what is probed."""
    parameters = settings.sampling.parameters()
    for name in ("temperature", "stop", "logprobs", "top_logprobs"):
        parameters.pop(name, None)
    if "max_tokens" in parameters:
        parameters["max_tokens"] = min(parameters["max_tokens"], _MOST_TOKENS)
    return parameters


async def _ask(http: Http, address: Address, body: dict[str, Any]) -> _Answer:
    try:
        answer = await http.post(address.at("chat/completions"), orjson.dumps(body))
    except TimedOut:
        return _Answer(None, None, {}, f"no answer within {_TIMEOUT_S:g} s")
    except Unanswered as error:
        return _Answer(None, None, {}, address.secrets.redact(str(error)))
    said = " ".join(address.secrets.redact(text_of_bytes(answer.body)).split())[:_DETAIL]
    return _Answer(answer.status, json_of(answer.body), answer.headers, f"{answer.status}: {said}")


def _can(answer: _Answer, does: bool) -> bool | None:
    if answer.choices:
        return does
    return False if answer.is_refusal else None


def _text(answer: _Answer) -> str:
    try:
        return text_in(answer.choices[0]["message"].get("content"))
    except (AttributeError, IndexError, KeyError, TypeError):
        return ""
