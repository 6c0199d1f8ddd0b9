"""The protocol of OpenAI's chat completions: a request as a body, what a body holds, what headers say."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import orjson

from understudy.teachers.request import Reply, Request

_VERSION = re.compile(r"([-@_](latest|main|preview|exp|v?\d+([-.:]\d+)*)|:[\w.-]+)+")
_FLOATING = re.compile(r"([-@_](latest|main|preview|exp))+$")
_LIMITS = [(f"x-ratelimit-remaining-{unit}", f"x-ratelimit-reset-{unit}") for unit in ("requests", "tokens")] + [
    (f"anthropic-ratelimit-{unit}-remaining", f"anthropic-ratelimit-{unit}-reset") for unit in ("requests", "tokens")
]
_BUSY = re.compile(r"over ?load|overcapacity|at capacity|too many|too busy|server (is )?busy|slow ?down", re.IGNORECASE)
_PARTS = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def body_of(request: Request, *, n: int = 1, in_blocks: bool = False) -> bytes:
    """What is sent for a request.

    Args:
        n: how many samples to ask for.
        in_blocks: ask for the schema's form in words, of an endpoint that knows no schemas.
    """
    body = {"model": request.model, "messages": request.messages, **request.sampling}
    if "seed" in body:
        body["seed"] += request.sample
    if n > 1:
        body["n"] = n
    if request.schema is not None:
        from understudy.teachers import structured  # only where it is needed

        if in_blocks:
            body["messages"] = structured.in_blocks(request.messages, request.schema)
        else:
            body["response_format"] = structured.response_format(request.schema)
    return orjson.dumps(body)


def cut_at_stop(reply: Reply, request: Request) -> Reply:
    """The reply up to the first of the request's stop texts: some servers leave it, or all that follows, in the answer.

    An answer that ran on past it to the limit of tokens is a whole one.
    """
    places = [place for stop in request.sampling.get("stop") or () if (place := reply.text.find(stop)) >= 0]
    if not places:
        return reply
    finish_reason = "stop" if reply.finish_reason == "length" else reply.finish_reason
    return replace(reply, text=reply.text[: min(places)], finish_reason=finish_reason)


def same_model(asked: str, answered: str) -> bool:
    """Whether two names can be of one model: either may leave out organisation, folder, tag, date or version number."""
    short, long = sorted((_plain(asked), _plain(answered)), key=len)
    return long == short or (long.startswith(short) and _VERSION.fullmatch(long[len(short) :]) is not None)


def _plain(name: str) -> str:
    last = re.split(r"[/\\]", name.casefold().rstrip("/\\"))[-1]
    return _FLOATING.sub("", last.removesuffix(".gguf"))


def json_of(raw: bytes) -> Any:
    """What a body says; ``None`` where it is no JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def text_of_bytes(raw: bytes) -> str:
    """A body for people."""
    return raw.decode(errors="replace")


def text_in(content: Any) -> str:
    """The text of a message's content.

    Raises:
        TypeError, AttributeError: it is none.
    """
    if isinstance(content, list):  # some servers answer in parts
        return "".join(part.get("text") or "" for part in content)
    if not isinstance(content, str | None):
        raise TypeError("an answer must be a text")
    return content or ""


def count_in(usage: Any, name: str) -> int | None:
    """A number of the usage, where there is one."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < 2**62 else None


def error_in(body: Any) -> tuple[str, str]:
    """Message and code of an error body, whatever form the server gives it."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or ""
        return str(message), str(error.get("code") or error.get("type") or "")
    return (error, "") if isinstance(error, str) else ("", "")


def status_in(body: Any) -> int | None:
    """Routers send the status of a fault inside a body with status 200."""
    if not isinstance(body, dict) or "choices" in body or not isinstance(body.get("error"), dict):
        return None
    code = body["error"].get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else None


def share(total: int | None, place: int, of: int) -> int | None:
    """The part of a total that falls to one of several places, so that the parts sum up to it."""
    return None if total is None else total // of + (place < total % of)


def reason_of(status: int, code: str, message: str) -> str:
    """Why a request was refused, as reports count it."""
    words = f"{code} {message}".casefold()
    if status == 413 or "context_length" in words or "context length" in words or "too long" in words:
        return "too_long"
    if "content_filter" in words or "content_policy" in words or "content management policy" in words:
        return "content_refused"
    return {403: "forbidden", 404: "not_found", 422: "unprocessable"}.get(status, "bad_request")


def is_overload(status: int, headers: Mapping[str, str], message: str) -> bool:
    """Whether it is only asked for too much at once: 429, and what others say in its place."""
    if status == 503 and headers.get("retry-after"):
        return True
    return status in (429, 529) or (status >= 500 and bool(_BUSY.search(message)))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long the endpoint tells us to wait, in seconds, by any of the headers in use; ``None`` if it does not."""
    if milliseconds := headers.get("retry-after-ms"):
        return _seconds(milliseconds + "ms")
    value = headers.get("retry-after")
    return _seconds(value) if value else used_up_s(headers)


def used_up_s(headers: Mapping[str, str]) -> float | None:
    """How long a limit that is used up stays so, in seconds; ``None`` where none is."""
    for remaining, reset in _LIMITS:
        if headers.get(remaining) == "0":
            return _seconds(headers.get(reset, ""))
    return None


def _seconds(value: str) -> float | None:
    """``12``, ``1.5s``, ``6m0s``, ``20ms``, or a date of HTTP or ISO 8601, as seconds from now."""
    parts = _PARTS.findall(value)
    if parts and "".join(number + unit for number, unit in parts) == value:
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    for read in (float, _until_http_date, _until_iso_date):
        try:
            seconds = read(value)
        except (TypeError, ValueError, OverflowError):
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    return None


def _until_http_date(value: str) -> float:
    return parsedate_to_datetime(value).timestamp() - time.time()


def _until_iso_date(value: str) -> float:
    return datetime.fromisoformat(value).timestamp() - time.time()
