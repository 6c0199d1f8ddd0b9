"""The lines of batch files: a request out, an answer back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import orjson

from understudy.errors import TeacherError
from understudy.teachers.backends.chat import body_of
from understudy.teachers.backends.openai import OpenAI
from understudy.teachers.backends.redact import Secrets
from understudy.teachers.request import Refused, Reply, Request, TryAgain

ENDPOINT = "/v1/chat/completions"
_DETAIL = 300  # characters of a message that are kept

Said: TypeAlias = Reply | Exception | None
"""What a line says of a request: a reply, a fault, or only that its batch ended before."""


def line_of(key: str, request: Request) -> bytes:
    """A request as a line of the file that is sent."""
    body = orjson.Fragment(body_of(request))
    line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": body}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def read_line(line: bytes, chat: OpenAI, secrets: Secrets, latency_s: float) -> tuple[str, Said] | None:
    """The key of a line that came back and what it says, by the same rules as answers to single requests.

    Returns:
        ``None`` where it cannot be read.
    """
    try:
        told = orjson.loads(line)
        key, response = str(told["custom_id"]), told.get("response")
        if response is None:
            return key, _fault(told["error"], secrets)
        # some leave the frame out
        status, body = int(response.get("status_code", 200)), orjson.dumps(response.get("body", response))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    try:
        return key, chat.read(status, {}, body, latency_s)
    except (Refused, TryAgain, TeacherError) as fault:
        return key, fault


def _fault(error: Mapping[str, Any], secrets: Secrets) -> Exception | None:
    code, message = str(error.get("code")), secrets.redact(str(error.get("message")))
    if code in ("batch_expired", "batch_cancelled"):
        return None
    return TryAgain("timed_out" if code == "request_timeout" else "server_error", f"{code}: {message}"[:_DETAIL])
