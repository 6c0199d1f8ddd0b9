"""The provider's side of batches: OpenAI's calls for files and batches, and what their answers mean.

The fields are those of https://developers.openai.com/api/reference/resources/batches.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import orjson

from understudy.errors import TeacherError
from understudy.teachers.address import Address
from understudy.teachers.batch_lines import ENDPOINT, Said, read_line
from understudy.teachers.jobs import Say
from understudy.teachers.openai import OpenAI
from understudy.teachers.request import Refused, TryAgain
from understudy.teachers.settings import TeacherSettings

if TYPE_CHECKING:
    import aiohttp

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
        self._session: aiohttp.ClientSession | None = None
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
        import aiohttp

        with os.fdopen(os.dup(file.fileno()), "rb") as again:  # aiohttp closes what it has sent
            again.seek(0)
            form = aiohttp.FormData()
            form.add_field("purpose", "batch")
            form.add_field("file", again, filename="requests.jsonl", content_type="application/jsonl")
            data = form()
            headers = {"Content-Type": data.content_type}  # the session's own is another
            answer = await self._json("POST", "files", data=data, headers=headers, seconds=size / _SLOWEST)
        return _id(answer)

    async def create(self, file_id: str, ours: str) -> BatchState:
        """Make a batch of an uploaded file; ``ours`` is our own name for it."""
        wish = {
            "input_file_id": file_id,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {_OURS: ours},
        }
        return self._state(await self._json("POST", "batches", data=orjson.dumps(wish)))

    async def look(self, batch_id: str) -> BatchState:
        """How far a batch is.

        Raises:
            Gone: there is none of this id.
        """
        return self._state(await self._json("GET", f"batches/{quote(batch_id, safe='')}"))

    async def find(self, ours: str, file_id: str | None, since: float) -> BatchState | None:
        """The batch of our own name, or of this file, where it was made after ``since`` (seconds since 1970)."""
        after: dict[str, str] = {}
        while True:
            try:
                page = await self._json("GET", "batches", params={"limit": "100", **after})
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
        """The lines of a file as they come.

        Raises:
            Gone: there is no such file.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(sock_connect=self._timeout_s, sock_read=self._timeout_s)
        path = f"files/{quote(file_id, safe='')}/content"
        # some keep files in a store elsewhere; aiohttp does not send the key there
        async with self._answer("GET", path, timeout=timeout, allow_redirects=True) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    yield line
            yield rest

    def read(self, line: bytes, latency_s: float) -> tuple[str, Said] | None:
        """What a line of such a file says: see ``read_line``."""
        return read_line(line, self._chat, self._address.secrets, latency_s)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _json(self, method: str, path: str, *, seconds: float = 0.0, **more: Any) -> dict[str, Any]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=self._timeout_s + seconds)
        async with self._answer(method, path, timeout=timeout, **{"allow_redirects": False, **more}) as response:
            raw = await response.read()
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise TryAgain("malformed_reply", self._show(raw.decode(errors="replace")))
        return answer

    @asynccontextmanager
    async def _answer(self, method: str, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp

        if self._session is None:
            self._session = self._address.session(self._timeout_s)
        try:
            async with self._session.request(method, self._address.at(path), **more) as response:
                if response.status not in (200, 201):
                    self._refuse(response.status, response.headers, await response.read())
                self._has_answered = True
                yield response
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise TryAgain("unreachable", self._show(str(error)), unreachable=True) from None
        except TimeoutError:
            raise TryAgain("timed_out", f"no answer within timeout_s: {self._timeout_s:g}") from None
        except aiohttp.ClientError as error:
            raise TryAgain("connection_lost", self._show(f"{type(error).__name__}: {error}")) from None

    def _refuse(self, status: int, headers: Mapping[str, str], raw: bytes) -> None:
        if status in (404, 405):
            raise Gone(self._show(f"{status}: {raw.decode(errors='replace')}"))
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
