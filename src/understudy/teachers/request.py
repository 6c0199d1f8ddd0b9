"""What is asked and what comes back: Request, Reply, and the three ways in which one attempt can fail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import orjson

from understudy.errors import DataError, ParseError, TeacherError
from understudy.records import Example

Message: TypeAlias = dict[str, str]
"""One turn of a chat: ``{"role": "system" | "user" | "assistant", "content": text}``."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a teacher. Its key is its content and nothing else, so that any study finds the reply again."""

    teacher: str  # the back end's identity: a name, or the hash of what answers
    model: str
    messages: Sequence[Message]
    sampling: Mapping[str, Any] = field(default_factory=dict)
    sample: int = 0  # which of several answers to the same messages
    schema: Mapping[str, Any] | None = None
    matched: str | None = None  # digest of what decides the answer besides the messages: see Backend.matched

    def content(self) -> bytes:
        """The request as canonical JSON: the same bytes whatever the order of its keys.

        Raises:
            DataError: a message holds something that is no JSON, such as half a surrogate pair.
        """
        content = {
            "messages": self.messages,
            "model": self.model,
            "sample": self.sample,
            "sampling": self.sampling,
            "schema": self.schema,
            "teacher": self.teacher,
        }
        if self.matched is not None:  # left out elsewhere, so that keys of before there was such a thing hold
            content["matched"] = self.matched
        try:
            return orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:
            raise DataError(f"a prompt cannot be written as JSON: {error}; look for broken text in its row") from None

    @property
    def key(self) -> str:
        """The ledger's key: a tagged digest of the content."""
        return key_of(self.content())


KEY_TAG = "b2:"  # leaves room for another digest


def key_of(content: bytes) -> str:
    """``b2:`` and 32 hexadecimal digits of BLAKE2b."""
    return KEY_TAG + hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher answered. Numbers that nobody told us are ``None``."""

    text: str
    finish_reason: str = "stop"  # "stop" | "length" | "content_filter" | what the server says
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    usd: float | None = None
    model: str = ""  # as the teacher names itself
    latency_s: float = 0.0  # of the attempt that succeeded
    attempts: int = 1
    recorded: bool = False  # an answer to a prompt that was not ours
    raw: bytes = b""  # what else the endpoint sent, as JSON: reasoning, log-probabilities, its name for the answer

    @property
    def mean_logprob(self) -> float | None:
        """The mean log-probability of the answer's tokens, where a model on this machine told it."""
        if not self.raw:
            return None
        told = orjson.loads(self.raw)
        value = told.get("mean_logprob") if isinstance(told, dict) else None
        return float(value) if isinstance(value, int | float) else None

    @property
    def is_written(self) -> bool:
        """Whether a language model wrote it outside any endpoint; ``model`` then says who, and when."""
        return self.raw == WRITTEN


WRITTEN = b'{"written":true}'
"""What a reply that was written outside any endpoint has as ``raw``."""


def answer_in(reply: Reply) -> str:
    """The text of a reply that is an answer.

    Raises:
        ParseError: it was cut off, refused, or is empty.
    """
    if reply.finish_reason == "length":
        raise ParseError("cut_off", "the answer was cut off; a larger sampling.max_tokens lets it end")
    if reply.finish_reason == "content_filter":
        raise ParseError("content_refused", reply.text)
    if not reply.text.strip():
        raise ParseError("empty_reply")
    return reply.text


class Backend(Protocol):
    """What can answer requests.

    Building one checks its settings and works out its identity; it must be cheap and open nothing, because
    ``--dry-run`` and ``estimate`` build one too. Calls come from one event loop, many at a time.

    Some more attributes are looked for and may be left out:

    - ``shown``: a text for people that says where it is, by default the name of the back end;
    - ``matched(example) -> str``, for one that answers by the row and not only by the messages: a digest of all that
      it looks at in the row, which then stands in the request's key;
    - ``attach(ledger)``, called before ``start``: for what must outlive a kill;
    - ``samples(requests, example) -> list[Reply]``: several samples of the same messages with one attempt. Fewer
      replies than requests are as good; the rest is then asked for one by one, as it is after a Refused;
    - ``is_trying``: while it holds, requests with a schema are sent one at a time, to find out how they are answered;
    - ``reserve(key, budget, most, price)``, for one whose requests outlive the run that sent them: it sets aside and
      settles what they cost itself (see ``Batch``), and closing waits for none of them;
    - ``hold``, to which a function of seconds is assigned: call it where nothing should be sent for so long;
    - ``say``, to which a function of a text is assigned: call it with what a person who waits may want to know.
    """

    identity: str
    """What answers, as it stands in request keys: a name, or a hash of weights or of a file."""
    model: str
    """The model as it stands in request keys; empty where the identity says it all."""
    endpoint: str
    """Where it is: back ends with one endpoint share its limit of concurrency and its pauses. Never shown."""
    costs: bool
    """Whether requests spend the study's budget; what runs on this machine does not."""

    def start(self) -> None:
        """Take what is needed (keys, weights, files) before the first request.

        Raises:
            SettingsError, TeacherError, DataError: it cannot work; the message says what to do.
        """
        ...

    async def complete(self, request: Request, example: Example) -> Reply:
        """Answer one request with one attempt; ``example`` is the row that it was made of.

        Raises:
            Refused: this request will never be answered.
            TryAgain: the same request may be answered later.
            TeacherError: no request will be answered.
        """
        ...

    async def aclose(self) -> None:
        """Let go of everything."""
        ...


class WrongModel(TeacherError):
    """Another model than the one asked for has answered, and may have been billed."""


class Refused(Exception):
    """This request will never be answered: its row is dropped and the run goes on.

    Args:
        if_all: the error that ends the run instead, where a teacher that never answered refuses its first requests
            in such a way, so that the fault is not in the rows.
        in_ledger: the ledger holds the refusal under the request's key.
    """

    def __init__(
        self, reason: str, detail: str = "", *, if_all: TeacherError | None = None, in_ledger: bool = False
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.if_all = if_all
        self.in_ledger = in_ledger


PASSING = frozenset({"connection_lost", "malformed_reply", "overloaded", "server_error", "timed_out", "unreachable"})
"""Reasons of dropped rows that may pass: a later run asks for those rows again."""


class TryAgain(Exception):
    """An attempt failed in a way that may pass.

    Args:
        after_s: the teacher said how long to wait.
        overloaded: the teacher asks us to slow down; such an attempt does not count against ``retries``, but nothing
            else for 10 minutes ends the run.
        may_cost: the request may have been answered and billed.
        unreachable: nobody answers at all; when retries are used up the run ends instead of dropping every row.
        otherwise: the next attempt is made in another way: it needs no pause, and this one does not count.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        after_s: float | None = None,
        overloaded: bool = False,
        may_cost: bool = False,
        unreachable: bool = False,
        otherwise: bool = False,
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.after_s = after_s
        self.overloaded = overloaded
        self.may_cost = may_cost
        self.unreachable = unreachable
        self.otherwise = otherwise
