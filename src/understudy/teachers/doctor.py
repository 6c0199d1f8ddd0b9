"""Whether a teacher can work, looked at before a study needs it."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import orjson

from understudy.errors import UnderstudyError
from understudy.teachers.backends.address import Address
from understudy.teachers.backends.chat import same_model
from understudy.teachers.backends.http import TimedOut, Unanswered
from understudy.teachers.probe import Capabilities, probe
from understudy.teachers.settings import TeacherSettings
from understudy.teachers.teacher import backend_of

_TIMEOUT_S = 5.0

Finding = tuple[str, bool, str]
"""What was looked at, whether it is well, and what was found or what to do."""


def check(settings: TeacherSettings, *, ask: bool = False) -> list[Finding]:
    """Look at a teacher without asking it anything: key, endpoint and model, or the file or folder.

    Each wait ends after 5 s; nothing raises for what is wrong with the teacher.

    Args:
        ask: ask an openai endpoint up to four tiny questions too, to see what it can do.
    """
    try:
        if settings.backend in ("openai", "batch"):
            return _check_endpoint(settings, ask and settings.backend == "openai")
        backend = backend_of(settings)
        if settings.backend == "recorded":
            backend.start()
    except UnderstudyError as error:
        return [("teacher", False, str(error))]
    return [("teacher", True, f"{settings.backend}: {settings.model or backend.identity}")]


def _check_endpoint(settings: TeacherSettings, ask: bool) -> list[Finding]:
    address = Address(settings)
    findings: list[Finding] = []
    try:
        address.check_key()
        findings.append(("teacher key", True, f"set in {settings.api_key_env}" if address.has_key else "none needed"))
    except UnderstudyError as error:
        findings.append(("teacher key", False, str(error)))
    with ThreadPoolExecutor(1) as thread:  # a notebook has a loop of its own in this one
        status, models = thread.submit(asyncio.run, _models(address)).result()
    findings.append(_reached(address, status))
    asked = probe(settings) if ask and all(ok for _, ok, _ in findings) else None
    if models:
        found = any(same_model(str(settings.model), name) for name in models)
        some = ", ".join(models[:5]) + (", ..." if len(models) > 5 else "")
        text = f"{settings.model!r} is served" if found else f"{settings.model!r} is not among {some}"
        if found or asked is None or asked.refused:  # what answers is there, whatever is listed
            findings.append(("teacher model", found, text))
    return findings + (_abilities(asked) if asked else [])


def _abilities(found: Capabilities) -> list[Finding]:
    """Each is well: what an endpoint cannot do is done in another way."""
    if found.refused:
        return [("teacher answer", False, found.refused)]
    without = {
        "n": "each sample is a request of its own",
        "schema": "answers are read as text, mended, and asked for once more",
        "logprobs": "nothing that needs them can be used",
        "usage": "tokens are counted by an upper bound, and replies have no price",
        "limits": "requests slow down when they are refused, or as the study says",
    }
    said = {True: "yes", False: "no", None: "could not be found out"}
    values = {name: getattr(found, name) for name in without}
    return [
        (f"teacher {name}", True, said[value] if value else f"{said[value]}; {without[name]}")
        for name, value in values.items()
    ]


def _reached(address: Address, status: int | str) -> Finding:
    if isinstance(status, str):
        return ("teacher endpoint", False, f"{address.shown} cannot be reached: {status}")
    if status in (401, 403):
        return ("teacher endpoint", False, f"{address.shown} refuses the key ({status}); {address.how_to_set_key}")
    return ("teacher endpoint", True, f"{address.shown} answers")


async def _models(address: Address) -> tuple[int | str, list[str]]:
    """The status, or why there is none, and the names of the models where the endpoint lists them."""
    async with aclosing(address.http(_TIMEOUT_S)) as http:
        try:
            answer = await http.get(address.at("models"))
        except TimedOut:
            return f"no answer within {_TIMEOUT_S:g} s", []
        except Unanswered as error:
            return address.secrets.redact(str(error)), []
    return answer.status, _names(answer.body) if answer.status == 200 else []


def _names(raw: bytes) -> list[str]:
    try:
        listed: Any = orjson.loads(raw)
        return [str(model["id"]) for model in listed["data"]]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return []
