"""Any endpoint that speaks OpenAI's chat completions: OpenAI itself, vLLM, llama.cpp, Ollama, TGI, a router."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import orjson

from understudy.errors import TeacherError
from understudy.records import Example
from understudy.teachers.address import Address
from understudy.teachers.request import Refused, Reply, Request, TryAgain
from understudy.teachers.settings import TeacherSettings

if TYPE_CHECKING:
    import aiohttp

_DETAIL = 300  # characters of a server's message that are kept
_VERSION = re.compile(r"([-@_](latest|main|preview|exp|v?\d+([-.:]\d+)*)|:[\w.-]+)+")
_FLOATING = re.compile(r"([-@_](latest|main|preview|exp))+$")


class OpenAI:
    """One endpoint. Requests go over pooled connections; one call of ``complete`` is one attempt."""

    costs = True

    def __init__(self, settings: TeacherSettings) -> None:
        assert settings.model is not None  # TeacherSettings sees to it
        self.model = settings.model
        self.identity = settings.name or settings.model
        self._settings = settings
        self._address = Address(settings)
        self.endpoint = f"openai {self._address.endpoint}"
        self.shown = self._address.shown
        self._session: aiohttp.ClientSession | None = None
        self._has_answered = False

    def start(self) -> None:
        """See that there is a key.

        Raises:
            SettingsError: there is none, and the endpoint is not on this machine or network.
        """
        self._address.check_key()

    async def complete(self, request: Request, example: Example) -> Reply:
        """Send one request once."""
        import aiohttp

        if self._session is None:
            self._session = self._address.session(self._settings.timeout_s)
        started = time.perf_counter()
        try:
            async with self._session.post(
                self._address.at("chat/completions"), data=_body(request), allow_redirects=False
            ) as response:
                raw = await response.read()
                status, headers = response.status, response.headers
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise self._unreachable(self._show(str(error))) from None
        except TimeoutError:
            message = f"no answer within timeout_s: {self._settings.timeout_s:g}"
            raise TryAgain("timed_out", message, may_cost=True) from None
        except aiohttp.ClientError as error:
            raise TryAgain("connection_lost", self._show(f"{type(error).__name__}: {error}"), may_cost=True) from None
        body = _json(raw)
        status = _status_in(body) or status
        if status != 200:
            self._refuse(status, headers, body, raw)
        reply = self._reply(body, raw, time.perf_counter() - started)
        self._has_answered = True
        return reply

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _reply(self, body: Any, raw: bytes, latency_s: float) -> Reply:
        try:
            choice = body["choices"][0]
            message = choice["message"]
            text, refusal = _text(message.get("content")), _text(message.get("refusal"))
        except (KeyError, IndexError, TypeError, AttributeError):
            raise TryAgain("malformed_reply", self._show(_decode(raw)), may_cost=True) from None
        model = body.get("model") or ""
        self._check_model(str(model))
        usage = body.get("usage")
        return Reply(
            text=self._address.secrets.redact(text or refusal),
            finish_reason="content_filter" if refusal else str(choice.get("finish_reason") or "stop"),
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            model=self._address.secrets.redact(str(model)),
            latency_s=latency_s,
        )

    def _check_model(self, answered: str) -> None:
        if not answered or same_model(self.model, answered) or same_model(self.identity, answered):
            return
        raise TeacherError(
            f"teacher.model is {self.model!r}, but {self._address.shown} answered as {self._show(answered)!r}; "
            "ask for that model, or, if it is only another name of the same one, set teacher.name to it"
        )

    def _refuse(self, status: int, headers: Mapping[str, str], body: Any, raw: bytes) -> None:
        """Say what a status other than 200 means.

        Raises:
            TryAgain, Refused, TeacherError: always one of them.
        """
        message, code = _error_in(body)
        said = self._show(message or _decode(raw)) or "no message"
        detail = f"{status}: {said}"
        if status == 401:
            raise self._key_refused(detail)
        if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
            raise TeacherError(f"{self._address.shown} wants money before it answers ({detail}); see to the account")
        if status in (404, 405) and not self._has_answered:
            raise TeacherError(
                f"{self._address.shown} knows no such model or path ({detail}); "
                f"check teacher.model ({self.model!r}) and teacher.base_url (it mostly ends in /v1)"
            )
        if 300 <= status < 400:
            raise TeacherError(
                f"{self._address.shown} redirects elsewhere ({status}); set teacher.base_url to the new place"
            )
        if status == 429:
            raise TryAgain("overloaded", detail, after_s=_retry_after_s(headers), overloaded=True)
        if status >= 500 or status in (408, 409, 425):
            raise TryAgain("server_error", detail, after_s=_retry_after_s(headers))
        reason = _reason(status, code, said)
        if reason == "content_refused" or status not in (400, 403, 404, 422):
            raise Refused(reason, detail)
        raise Refused(reason, detail, if_all=self._key_refused(detail) if status == 403 else self._all_refused(detail))

    def _key_refused(self, detail: str) -> TeacherError:
        return TeacherError(f"{self._address.shown} refuses the key ({detail}); {self._address.how_to_set_key}")

    def _all_refused(self, detail: str) -> TeacherError:
        return TeacherError(
            f"{self._address.shown} refuses whatever it is asked ({detail}); check teacher.sampling, where extra holds "
            f"parameters of other names and null takes one out, and teacher.model ({self.model!r})"
        )

    def _unreachable(self, why: str) -> Exception:
        if self._has_answered:
            return TryAgain("unreachable", why, unreachable=True)
        return TeacherError(
            f"{self._address.shown} cannot be reached ({why}); nothing was spent: "
            "start the server, or check teacher.base_url and the network"
        )

    def _show(self, text: str) -> str:
        return " ".join(self._address.secrets.redact(text).split())[:_DETAIL]


def same_model(asked: str, answered: str) -> bool:
    """Whether two names can be of one model: either may leave out organisation, folder, tag, date or version number."""
    short, long = sorted((_plain(asked), _plain(answered)), key=len)
    return long == short or (long.startswith(short) and _VERSION.fullmatch(long[len(short) :]) is not None)


def _plain(name: str) -> str:
    last = re.split(r"[/\\]", name.casefold().rstrip("/\\"))[-1]
    return _FLOATING.sub("", last.removesuffix(".gguf"))


def _body(request: Request) -> bytes:
    parameters = dict(request.sampling)
    if "seed" in parameters:
        parameters["seed"] += request.sample
    return orjson.dumps({"model": request.model, "messages": request.messages, **parameters})


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None


def _decode(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _text(content: Any) -> str:
    if isinstance(content, list):  # some servers answer in parts
        return "".join(part.get("text") or "" for part in content)
    if not isinstance(content, str | None):
        raise TypeError("an answer must be a text")
    return content or ""


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else None


def _error_in(body: Any) -> tuple[str, str]:
    """Message and code of an error body, whatever form the server gives it."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, dict):
        message = error.get("message") or error.get("detail") or ""
        return str(message), str(error.get("code") or error.get("type") or "")
    return (error, "") if isinstance(error, str) else ("", "")


def _status_in(body: Any) -> int | None:
    """Routers send the status of a fault inside a body with status 200."""
    if not isinstance(body, dict) or "choices" in body or not isinstance(body.get("error"), dict):
        return None
    code = body["error"].get("code")
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _reason(status: int, code: str, message: str) -> str:
    words = f"{code} {message}".casefold()
    if status == 413 or "context_length" in words or "context length" in words or "too long" in words:
        return "too_long"
    if "content_filter" in words or "content_policy" in words or "content management policy" in words:
        return "content_refused"
    return {403: "forbidden", 404: "not_found", 422: "unprocessable"}.get(status, "bad_request")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
