"""The provider's side of batches: OpenAI's calls for files and batches, and what their answers mean.

The fields are those of https://developers.openai.com/api/reference/resources/batches.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote

import orjson

from understudy.errors import TeacherError
from understudy.teachers.backends.address import Address
from understudy.teachers.backends.batch_lines import ENDPOINT, Said, read_line
from understudy.teachers.backends.chat import json_of, text_of_bytes
from understudy.teachers.backends.http import Answer, Http, TimedOut, Unanswered, Unreachable
from understudy.teachers.backends.openai import OpenAI
from understudy.teachers.engine.jobs import Say
from understudy.teachers.request import Refused, TryAgain
from understudy.teachers.settings import TeacherSettings
from understudy.workspace.files import disk_errors

T = TypeVar("T")

_OURS = "understudy"  # our own name for a batch, in its metadata
_SLOWEST = 50_000  # bytes a second at which an upload is still waited for
_CLOCKS_S = 3600.0  # most that the provider's clock and ours may differ
_DETAIL = 300  # characters of a server's message that are kept
_OVER = frozenset({"failed", "completed", "expired", "cancelled"})


class Gone(Exception):
    """The provider knows no such file or batch."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """One look at a batch."""

    batch_id: str
    status: str
    output_file_id: str | None
    error_file_id: str | None
    done: int  # requests, failed ones too
    total: int
    errors: tuple[tuple[str, str], ...]  # code and message of what is wrong with the whole batch

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _OVER


class BatchApi:
    """Calls to one endpoint, each one attempt; ``patiently`` makes many of it.

    Raises:
        TryAgain: every call may; it can be made again.
        Gone: every call may; there is no such thing.
        TeacherError: every call may; no call will be answered.
    """

    patience_s = 3600.0
    """How long an endpoint may answer nothing but faults: to look again costs nothing."""

    def __init__(self, settings: TeacherSettings, address: Address, say: Say) -> None:
        self.shown = address.shown
        self.poll_s = settings.poll_s
        self.say = say
        self._timeout_s = settings.timeout_s
        self._address = address
        self._chat = OpenAI(settings)  # for what its answers mean; it sends nothing
        self._has_answered = False

    async def patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until it is answered.

        Raises:
            TeacherError: there was nothing but faults for ``patience_s``, or nobody there from the start.
        """
        began, said = time.monotonic(), False
        pause_s = min(1.0, self.poll_s)
        while True:
            try:
                return await call()
            except TryAgain as fault:
                why = f"{fault.reason}: {fault.detail}"
                if fault.unreachable and not self._has_answered:
                    raise TeacherError(
                        f"{self.shown} cannot be reached ({fault.detail}); check teacher.base_url and the network"
                    ) from None
                if time.monotonic() - began > self.patience_s:
                    raise TeacherError(
                        f"{self.shown} has not answered for {self.patience_s:.0f} s ({why}); every batch is kept: run "
                        "the same command to go on"
                    ) from None
                if pause_s >= self.poll_s and not said:
                    said = True
                    self.say(f"{self.shown} does not answer ({why}); trying again")
                await asyncio.sleep(max(pause_s, fault.after_s or 0.0))
                pause_s = min(self.poll_s, pause_s * 2)

    async def upload(self, file: IO[bytes], size: int) -> str:
        """Upload a file of requests and return its id."""
        at = self._address.at("files")
        return _id(await self._json(self._calls.upload(at, file, size, more_s=size / _SLOWEST, purpose="batch")))

    async def create(self, file_id: str, ours: str) -> BatchState:
        """Make a batch of an uploaded file; ``ours`` is our own name for it."""
        wish = {
            "input_file_id": file_id,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {_OURS: ours},
        }
        return self._state(await self._json(self._calls.post(self._address.at("batches"), orjson.dumps(wish))))

    async def look(self, batch_id: str) -> BatchState:
        """How far a batch is.

        Raises:
            Gone: there is none of this id.
        """
        return self._state(await self._json(self._calls.get(self._address.at(f"batches/{quote(batch_id, safe='')}"))))

    async def find(self, ours: str, file_id: str | None, since: float) -> BatchState | None:
        """The batch of our own name, or of this file, where it was made after ``since`` (seconds since 1970)."""
        after: dict[str, str] = {}
        while True:
            try:
                page = await self._json(self._calls.get(self._address.at("batches", limit="100", **after)))
            except Gone:  # not everybody lists batches
                return None
            batches = [one for one in page.get("data") or () if isinstance(one, dict)]
            for one in batches:
                name = _mapping(one, "metadata").get(_OURS)
                if name == ours or (file_id and one.get("input_file_id") == file_id):
                    return self._state(one)
            if not batches or not page.get("has_more") or _made(batches[-1]) < since - _CLOCKS_S:
                return None
            after = {"after": _id(batches[-1])}

    async def lines(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file.

        Raises:
            Gone: there is no such file.
        """
        at = self._address.at(f"files/{quote(file_id, safe='')}/content")
        with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryFile(prefix="understudy-") as file:
            with self._asking():
                answer = await self._calls.fetch(at, file)
            file.seek(0)
            if answer.status != 200:
                self._refuse(answer.status, answer.headers, file.read())
            for line in file:
                yield line

    def read(self, line: bytes, latency_s: float) -> tuple[str, Said] | None:
        """What a line of such a file says: see ``read_line``."""
        return read_line(line, self._chat, self._address.secrets, latency_s)

    async def aclose(self) -> None:
        """Close the connections."""
        if (calls := vars(self).get("_calls")) is not None:
            await calls.aclose()

    @cached_property
    def _calls(self) -> Http:
        return self._address.http(self._timeout_s)

    async def _json(self, call: Awaitable[Answer]) -> dict[str, Any]:
        with self._asking():
            answer = await call
        if answer.status not in (200, 201):
            self._refuse(answer.status, answer.headers, answer.body)
        self._has_answered = True
        said = json_of(answer.body)
        if not isinstance(said, dict):
            raise TryAgain("malformed_reply", self._show(text_of_bytes(answer.body)))
        return said

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except Unreachable as error:
            raise TryAgain("unreachable", self._show(str(error)), unreachable=True) from None
        except TimedOut:
            raise TryAgain("timed_out", f"no answer within timeout_s: {self._timeout_s:g}") from None
        except Unanswered as error:
            raise TryAgain("connection_lost", self._show(str(error))) from None

    def _refuse(self, status: int, headers: Mapping[str, str], raw: bytes) -> None:
        if status in (404, 405):
            raise Gone(self._show(f"{status}: {text_of_bytes(raw)}"))
        try:
            self._chat.read(status, headers, raw, 0.0)
        except Refused as error:
            raise TeacherError(f"{self._address.shown} does not take what it is sent ({error.detail})") from None

    def _state(self, batch: Mapping[str, Any]) -> BatchState:
        counts = _mapping(batch, "request_counts")
        errors = _mapping(batch, "errors").get("data") or ()
        return BatchState(
            batch_id=_id(batch),
            status=str(batch.get("status")),
            output_file_id=batch.get("output_file_id") or None,  # some send ""
            error_file_id=batch.get("error_file_id") or None,
            done=(counts.get("completed") or 0) + (counts.get("failed") or 0),
            total=counts.get("total") or 0,
            errors=tuple((str(e.get("code") or ""), self._show(_told(e))) for e in errors if isinstance(e, dict)),
        )

    def _show(self, text: str) -> str:
        return " ".join(self._address.secrets.redact(text).split())[:_DETAIL]


def _mapping(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def _made(batch: Mapping[str, Any]) -> float:
    created = batch.get("created_at")
    return created if isinstance(created, int | float) else float("inf")


def _told(error: Mapping[str, Any]) -> str:
    line = f"line {error['line']}: " if error.get("line") is not None else ""
    return f"{line}{error.get('message') or error.get('code')}"


def _id(answer: Mapping[str, Any]) -> str:
    if not isinstance(answer.get("id"), str):
        raise TryAgain("malformed_reply", "the answer has no id")
    return answer["id"]
