"""HTTP to one endpoint: its connections, and the ways in which a request goes unanswered.

reqwest does the work, in Rust and beside the interpreter: a request costs half of what a client in Python takes.
"""

from __future__ import annotations

import asyncio
import atexit
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any, TypeVar

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import BuilderError, RequestError, RequestTimeoutError
from pyreqwest.http import HeaderMap
from pyreqwest.multipart import FormBuilder, PartBuilder
from pyreqwest.proxy import ProxyBuilder
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

T = TypeVar("T")

_CHUNK = 2**16  # bytes of a file that are read at once
_LARGEST = 2**28  # bytes of an answer that is held in memory
_LETTING_GO_S = 0.1
_LATE_S = 0.1

_let_go_at = float("-inf")  # the last client, in monotonic seconds


class Unanswered(Exception):
    """No answer came; the request may have been carried out all the same. The text may hold what is secret."""


class Unreachable(Unanswered):
    """Nobody is there: nothing was sent."""


class TimedOut(Unanswered):
    """It took longer than is waited."""


class Stalled(TimedOut):
    """An answer began to come and stopped."""


class Headers(Mapping[str, str]):
    """Values by name in any case; those that are no text are left out."""

    def __init__(self, sent: HeaderMap) -> None:
        self._sent = sent

    def __getitem__(self, name: str) -> str:
        try:
            return self._sent[name]
        except ValueError:
            raise KeyError(name) from None

    def get(self, name: str, default: str | None = None) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Quicker than the mapping's own: asked for several a request."""
        try:
            return self._sent.get(name, default)
        except ValueError:
            return default

    def __iter__(self) -> Iterator[str]:
        return iter(self._sent)

    def __len__(self) -> int:
        return len(self._sent)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Incoming:
    """An answer whose body comes in parts."""

    status: int
    headers: Headers
    parts: AsyncIterator[bytes]


class Http:
    """A pool of connections, and what goes along with each request. Calls come from one event loop.

    Args:
        headers: sent with every request.
        proxy: the URL of a proxy; ``None`` is none, whatever the environment says.
        timeout_s: of a request, from its beginning to the last byte of its answer.
        stall_timeout_s: between two parts of an answer; ``None``: as long as the request may take.
        downloads: only each part of an answer is waited for as long, and redirects are followed, without the key
            where they lead elsewhere.

    Raises:
        ValueError: the proxy is no address.
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
        within = min(connect_timeout_s, 0.9 * timeout_s)  # what ends first says that nothing was sent
        builder = ClientBuilder().default_headers(headers).user_agent("understudy").no_proxy()
        builder = builder.follow_redirects(downloads).referer(False).connect_timeout(timedelta(seconds=within))
        builder = builder.deflate(False)  # servers disagree what it is
        builder = builder.http1_allow_obsolete_multiline_headers_in_responses(True)
        builder = builder.http1_ignore_invalid_headers_in_responses(True)
        builder = builder.http1_allow_spaces_after_header_name_in_responses(True)
        if not downloads:
            builder = builder.timeout(timedelta(seconds=timeout_s))
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
            async with AsyncExitStack() as stack:
                sent = self._client.get(url).streamed_read_buffer_limit(0).build_streamed()
                response = await self._stalls.watch(stack.enter_async_context(sent))
                yield Incoming(response.status, Headers(response.headers), self._parts(response))
        except (RequestError, BuilderError) as error:
            raise _unanswered(error) from None

    async def aclose(self) -> None:
        """Close the connections; nothing more can be sent."""
        global _let_go_at
        if (client := self.__dict__.pop("_client", None)) is not None:
            await client.close()
            del client
        _let_go_at = time.monotonic()

    async def _whole(self, request: RequestBuilder) -> Answer:
        try:
            async with request.streamed_read_buffer_limit(0).build_streamed() as response:
                size, length, parts = 0, int(response.get_header("content-length") or -1), []
                while size != length:
                    part = await self._stalls.watch(response.body_reader.read_chunk())
                    if part is None:
                        break
                    parts.append(part)
                    size += len(part)
                    if size > _LARGEST:
                        raise Unanswered(f"the answer is larger than {_LARGEST >> 20} MB")
                return Answer(response.status, Headers(response.headers), b"".join(parts))
        except (RequestError, BuilderError) as error:
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
        self._look_at: float | None = None

    async def watch(self, read: Awaitable[T]) -> T:
        """What is read; raises Stalled."""
        task = asyncio.current_task()
        assert task is not None
        self._since[task] = time.monotonic()
        if self._look_at is None:
            self._look_in(self._after_s)
        try:
            return await read
        except asyncio.CancelledError:
            if task in self._ended and task.uncancel() == 0:  # and nobody else ends it at the same time
                raise Stalled from None
            raise
        finally:
            self._since.pop(task, None)
            self._ended.discard(task)

    def _look_in(self, for_s: float) -> None:
        self._look_at = time.monotonic() + for_s
        asyncio.get_running_loop().call_later(for_s, self._look)

    def _look(self) -> None:
        now, due, self._look_at = time.monotonic(), self._look_at or 0.0, None
        if now > due + _LATE_S:  # the loop stood still: what has come meanwhile is read first
            self._look_in(_LATE_S)
            return
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


def _unanswered(error: RequestError | BuilderError) -> Unanswered:
    causes = [cause["message"] for cause in error.details["causes"] or ()]
    said = ": ".join(causes[1:]) or error.message  # the first one tells the URL
    if any("(Connect)" in cause for cause in causes):  # the error's class says so of a broken connection too
        return Unreachable(said)
    return TimedOut(said) if isinstance(error, RequestTimeoutError) else Unanswered(said)
