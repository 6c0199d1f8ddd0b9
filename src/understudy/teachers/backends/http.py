"""HTTP to one endpoint: its connections, and the ways in which a request goes unanswered.

reqwest does the work, in Rust and beside the interpreter: a request costs half of what a client in Python takes.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any, TypeVar

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import RequestError, RequestTimeoutError
from pyreqwest.multipart import FormBuilder, PartBuilder
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

T = TypeVar("T")

_CHUNK = 2**16  # bytes of a file that are read at once
_LETTING_GO_S = 0.1

_let_go_at = float("-inf")  # the last client, in monotonic seconds


class Unanswered(Exception):
    """No answer came; the request may have been carried out all the same. The text may hold what is secret."""


class Unreachable(Unanswered):
    """Nobody is there: nothing was sent."""


class TimedOut(Unanswered):
    """It took longer than is waited."""


class Stalled(TimedOut):
    """An answer began to come and stopped."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: Mapping[str, str]  # by name in any case
    body: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """An answer whose body comes in parts."""

    status: int
    headers: Mapping[str, str]  # by name in any case
    parts: AsyncIterator[bytes]


class Http:
    """A pool of connections, and what goes along with each request. Calls come from one event loop.

    Args:
        headers: sent with every request.
        proxy: the URL of a proxy; ``None`` is none, whatever the environment says.
        timeout_s: of a request, from its beginning to the last byte of its answer.
        stall_timeout_s: between two parts of an answer; ``None``: as long as the request may take.
        downloads: ``timeout_s`` is for each part of an answer, and redirects are followed, without the key where they
            lead elsewhere.

    Raises:
        Unanswered, Unreachable, TimedOut, Stalled: every request may.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        *,
        proxy: str | None,
        timeout_s: float,
        connect_timeout_s: float,
        stall_timeout_s: float | None = None,
        downloads: bool = False,
    ) -> None:
        builder = ClientBuilder().default_headers(headers).follow_redirects(downloads).no_proxy()
        builder = builder.connect_timeout(timedelta(seconds=min(connect_timeout_s, timeout_s)))
        within = timedelta(seconds=timeout_s)
        builder = builder.read_timeout(within) if downloads else builder.timeout(within)
        self._client: Client = (builder.proxy(ProxyBuilder.all(proxy)) if proxy else builder).build()
        self._timeout_s = timeout_s
        self._stalls = _Stalls(stall_timeout_s or timeout_s)

    async def get(self, url: str) -> Answer:
        """Ask for what is at a URL."""
        return await self._whole(self._client.get(url))

    async def post(self, url: str, body: bytes) -> Answer:
        """Send a body of JSON."""
        return await self._whole(self._client.post(url).header("Content-Type", "application/json").body_bytes(body))

    async def upload(self, url: str, file: IO[bytes], size: int, *, more_s: float, **fields: str) -> Answer:
        """Send a form of ``fields`` and a file of ``size`` bytes, for which it may take ``more_s`` longer."""
        file.seek(0)
        chunks = iter(lambda: file.read(_CHUNK), b"")
        part = PartBuilder.from_stream_with_length(chunks, size).mime("application/jsonl").file_name("requests.jsonl")
        form = FormBuilder()
        for name, value in fields.items():
            form = form.text(name, value)
        within = timedelta(seconds=self._timeout_s + more_s)
        return await self._whole(self._client.post(url).multipart(form.part("file", part)).timeout(within))

    @asynccontextmanager
    async def stream(self, url: str) -> AsyncIterator[Incoming]:
        """What is at a URL, as it comes."""
        try:
            async with self._client.get(url).build_streamed() as response:
                yield Incoming(response.status, response.headers, self._parts(response))
        except RequestError as error:
            raise _unanswered(error) from None

    async def aclose(self) -> None:
        """Close the connections; nothing more can be sent."""
        global _let_go_at
        await self._client.close()
        del self._client
        _let_go_at = time.monotonic()

    async def _whole(self, request: RequestBuilder) -> Answer:
        try:
            async with request.streamed_read_buffer_limit(0).build_streamed() as response:
                if response.get_header("content-length"):  # all of it is on its way
                    body = bytes(await self._stalls.watch(response.bytes()))
                else:
                    body = b"".join([part async for part in self._parts(response)])
                return Answer(response.status, response.headers, body)
        except RequestError as error:
            raise _unanswered(error) from None

    async def _parts(self, response: Response) -> AsyncIterator[bytes]:
        while (part := await self._stalls.watch(response.body_reader.read_chunk())) is not None:
            yield bytes(part)


class _Stalls:
    """Ends reads that take too long: one timer for all, where one for each would cost a tenth of a request."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._since: dict[asyncio.Task[Any], float] = {}  # the oldest first
        self._ended: set[asyncio.Task[Any]] = set()
        self._is_looking = False

    async def watch(self, read: Awaitable[T]) -> T:
        """What is read; raises Stalled."""
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = time.monotonic()
        if not self._is_looking:
            self._look_in(self._after_s)
        try:
            return await read
        except asyncio.CancelledError:
            if task in self._ended:
                task.uncancel()
                raise Stalled from None
            raise
        finally:
            self._since.pop(task, None)
            self._ended.discard(task)

    def _look_in(self, for_s: float) -> None:
        self._is_looking = True
        asyncio.get_running_loop().call_later(for_s, self._look)

    def _look(self) -> None:
        now, self._is_looking = time.monotonic(), False
        for task, since in list(self._since.items()):
            if now - since < self._after_s:
                self._look_in(self._after_s - (now - since))
                return
            del self._since[task]
            self._ended.add(task)
            task.cancel()


def _settle() -> None:
    """reqwest's thread ends shortly after its client, and aborts the process if it finds the interpreter gone."""
    time.sleep(max(0.0, _let_go_at + _LETTING_GO_S - time.monotonic()))


atexit.register(_settle)


def _unanswered(error: RequestError) -> Unanswered:
    causes = [cause["message"] for cause in error.details["causes"] or ()]
    said = ": ".join(causes[1:]) or error.message  # the first one tells the URL
    if any("(Connect)" in cause for cause in causes):  # the error's class says so of a broken connection too
        return Unreachable(said)
    return TimedOut(said) if isinstance(error, RequestTimeoutError) else Unanswered(said)
