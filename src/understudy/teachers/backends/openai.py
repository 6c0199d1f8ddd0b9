"""Any endpoint that speaks OpenAI's chat completions: OpenAI itself, vLLM, llama.cpp, Ollama, TGI, a router."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from understudy.errors import TeacherError
from understudy.records import Example
from understudy.teachers.backends.address import Address
from understudy.teachers.backends.chat import (
    body_of,
    count_in,
    cut_at_stop,
    error_in,
    is_overload,
    json_of,
    reason_of,
    retry_after_s,
    same_model,
    share,
    status_in,
    text_in,
    text_of_bytes,
    used_up_s,
)
from understudy.teachers.backends.http import Http, Stalled, TimedOut, Unanswered, Unreachable
from understudy.teachers.backends.schemas import Schemas
from understudy.teachers.ledger import Ledger
from understudy.teachers.request import Refused, Reply, Request, TryAgain, WrongModel
from understudy.teachers.settings import TeacherSettings

_TOLD = {"object", "created", "model", "usage", "choices", "index", "finish_reason", "message", "role"}  # or of no use
_DETAIL = 300  # characters of a server's message that are kept


class OpenAI:
    """One endpoint. Requests go over pooled connections; one call of ``complete`` or ``samples`` is one attempt."""

    costs = True

    def __init__(self, settings: TeacherSettings) -> None:
        assert settings.model is not None  # TeacherSettings sees to it
        self.model = settings.model
        self.identity = settings.name or settings.model
        self.hold: Callable[[float], None] = lambda for_s: None
        """Called with seconds where the endpoint says that its limit is used up for so long."""
        self._settings = settings
        self._address = Address(settings)
        self.endpoint = f"openai {self._address.endpoint} {settings.model}"
        self.shown = self._address.shown
        self._place = self._address.at("chat/completions")
        self._http: Http | None = None
        self._models: set[str] = set()  # names by which it answers, as far as they were looked at
        self._schemas: Schemas | None = None

    def attach(self, ledger: Ledger) -> None:
        """Remember there whether the endpoint knows schemas."""
        self._schemas = Schemas(ledger, f"{self.shown} {self.model}")

    def start(self) -> None:
        """See that there is a key.

        Raises:
            SettingsError: there is none, and the endpoint is not on this machine or network.
        """
        self._address.check_key()

    async def complete(self, request: Request, example: Example) -> Reply:
        """Send one request once."""
        return (await self.samples([request], example))[0]

    async def samples(self, requests: Sequence[Request], example: Example) -> list[Reply]:
        """Send several samples of the same messages in one request; it may bring fewer than were asked for.

        What the prompt cost stands with the first, what the answers did is spread evenly.
        """
        request, schemas = requests[0], self._schemas
        if request.schema is None or schemas is None:
            replies = await self._send(body_of(request, n=len(requests)))
            return [cut_at_stop(reply, request) for reply in replies]
        with_schema = schemas.are_sent()
        try:
            replies = await self._send(body_of(request, n=len(requests), in_blocks=not with_schema))
        except (Refused, TryAgain) as error:
            raise schemas.failed(error, with_schema) from None
        replies = [cut_at_stop(reply, request) for reply in replies]
        schemas.answered(replies[0], with_schema)
        return replies

    @property
    def is_trying(self) -> bool:
        """Whether the next request with a schema finds out if the endpoint takes it."""
        return self._schemas is not None and not self._schemas.is_known

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _send(self, body: bytes) -> list[Reply]:
        settings = self._settings
        if self._http is None:
            self._http = self._address.http(settings.timeout_s, settings.connect_timeout_s, settings.stall_timeout_s)
        started = time.perf_counter()
        try:
            answer = await self._http.post(self._place, body)
        except Unreachable as error:
            raise self._unreachable(self._show(str(error))) from None
        except Stalled:
            message = f"the answer stopped in the middle for stall_timeout_s: {settings.stall_timeout_s:g}"
            raise TryAgain("timed_out", message, may_cost=True) from None
        except TimedOut:
            raise TryAgain("timed_out", f"no answer within timeout_s: {settings.timeout_s:g}", may_cost=True) from None
        except Unanswered as error:
            raise TryAgain("connection_lost", self._show(str(error)), may_cost=True) from None
        if for_s := used_up_s(answer.headers):
            self.hold(for_s)
        return self.read_all(answer.status, answer.headers, answer.body, time.perf_counter() - started)

    def read(self, status: int, headers: Mapping[str, str], raw: bytes, latency_s: float) -> Reply:
        """The first reply in a response; raises what ``read_all`` does."""
        return self.read_all(status, headers, raw, latency_s)[0]

    def read_all(self, status: int, headers: Mapping[str, str], raw: bytes, latency_s: float) -> list[Reply]:
        """The replies in a response.

        Raises:
            TryAgain, Refused, TeacherError: there is none.
        """
        body = json_of(raw)
        status = status_in(body) or status
        if status != 200:
            self._refuse(status, headers, body, raw)
        try:
            return self._replies(body, latency_s)
        except (KeyError, IndexError, TypeError, AttributeError):
            raise TryAgain("malformed_reply", self._show(text_of_bytes(raw)), may_cost=True) from None

    def _replies(self, body: Any, latency_s: float) -> list[Reply]:
        choices, usage, model = body.pop("choices"), body.get("usage"), str(body.get("model") or "")
        if model not in self._models:
            self._check_model(model)
            self._models.add(model)
        prompt, completion = count_in(usage, "prompt_tokens"), count_in(usage, "completion_tokens")
        replies = []
        for place, choice in enumerate(choices):
            message = choice["message"]
            text, refusal = text_in(message.pop("content", None)), text_in(message.get("refusal"))
            replies.append(
                Reply(
                    self._blot(text or refusal),
                    "content_filter" if refusal else str(choice.get("finish_reason") or "stop"),
                    prompt if place == 0 or prompt is None else 0,
                    share(completion, place, len(choices)),
                    model=self._blot(model),
                    latency_s=latency_s,
                    raw=self._rest(body | choice | message),
                )
            )
        return [replies[0], *replies[1:]]  # an IndexError where there is none

    def _check_model(self, answered: str) -> None:
        if not answered or same_model(self.model, answered) or same_model(self.identity, answered):
            return
        raise WrongModel(
            f"teacher.model is {self.model!r}, but {self._address.shown} answered as {self._show(answered)!r}; "
            "ask for that model, or, if it is only another name of the same one, set teacher.name to it"
        )

    def _refuse(self, status: int, headers: Mapping[str, str], body: Any, raw: bytes) -> None:
        """Say what a status other than 200 means.

        Raises:
            TryAgain, Refused, TeacherError: always one of them.
        """
        message, code = error_in(body)
        said = self._show(message or text_of_bytes(raw)) or "no message"
        detail = f"{status}: {said}"
        if status == 401:
            raise self._key_refused(detail)
        if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
            raise TeacherError(f"{self._address.shown} wants money before it answers ({detail}); see to the account")
        if status in (404, 405) and not self._models:
            raise TeacherError(
                f"{self._address.shown} knows no such model or path ({detail}); "
                f"check teacher.model ({self.model!r}) and teacher.base_url (it mostly ends in /v1)"
            )
        if 300 <= status < 400:
            raise TeacherError(
                f"{self._address.shown} redirects elsewhere ({status}); set teacher.base_url to the new place"
            )
        if is_overload(status, headers, f"{code} {said}"):
            raise TryAgain("overloaded", detail, after_s=retry_after_s(headers), overloaded=True)
        if status >= 500 or status in (408, 409, 425):
            raise TryAgain("server_error", detail, after_s=retry_after_s(headers))
        reason = reason_of(status, code, said)
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
        if self._http is not None and self._http.has_connected:
            return TryAgain("unreachable", why, unreachable=True)
        return TeacherError(
            f"{self._address.shown} cannot be reached ({why}); nothing was spent: "
            "start the server, or check teacher.base_url and the network"
        )

    def _rest(self, sent: dict[str, Any]) -> bytes:
        """What else the endpoint said that is worth keeping: reasoning, log-probabilities, its name for the answer."""
        rest = {name: value for name, value in sent.items() if value and name not in _TOLD}
        return self._blot(orjson.dumps(rest).decode()).encode() if rest else b""

    def _blot(self, text: str) -> str:
        return self._address.secrets.blot(text)

    def _show(self, text: str) -> str:
        return " ".join(self._address.secrets.redact(text).split())[:_DETAIL]
