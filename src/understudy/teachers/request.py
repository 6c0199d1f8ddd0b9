"""What is asked and what comes back: Request, Reply, and the three ways in which one attempt can fail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import orjson

from understudy.errors import DataError
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

    def content(self) -> bytes:
        """The request as canonical JSON: the same bytes whatever the order of its keys.

        Raises:
            DataError: a message holds something that is no JSON, such as half a surrogate pair.
        """
        try:
            return orjson.dumps(
                {
                    "messages": self.messages,
                    "model": self.model,
                    "sample": self.sample,
                    "sampling": self.sampling,
                    "schema": self.schema,
                    "teacher": self.teacher,
                },
                option=orjson.OPT_SORT_KEYS,
            )
        except TypeError as error:
            raise DataError(f"a prompt cannot be written as JSON: {error}; look for broken text in its row") from None

    @property
    def key(self) -> str:
        """The ledger's key: a tagged digest of the content."""
        return key_of(self.content())


def key_of(content: bytes) -> str:
    """``b2:`` and 32 hexadecimal digits of BLAKE2b; the tag leaves room for another digest."""
    return "b2:" + hashlib.blake2b(content, digest_size=16).hexdigest()


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


class Backend(Protocol):
    """What can answer requests.

    Building one checks its settings and works out its identity; it must be cheap and open nothing, because
    ``--dry-run`` and ``estimate`` build one too. Calls come from one event loop, many at a time.
    """

    identity: str
    """What answers, as it stands in request keys: a name, or a hash of weights or of a file."""
    model: str
    """The model as it stands in request keys; empty where the identity says it all."""
    endpoint: str
    """What is shared: teachers with the same endpoint share one limit of concurrency. Never shown or written."""
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


class Refused(Exception):
    """This request will never be answered: its row is dropped and the run goes on."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class TryAgain(Exception):
    """An attempt failed in a way that may pass.

    Args:
        after_s: the teacher said how long to wait.
        overloaded: the teacher asks us to slow down; such an attempt does not count against ``retries``.
        may_cost: the request may have been answered and billed.
        unreachable: nobody answers at all; when retries are used up the run ends instead of dropping every row.
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
    ) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.after_s = after_s
        self.overloaded = overloaded
        self.may_cost = may_cost
        self.unreachable = unreachable
