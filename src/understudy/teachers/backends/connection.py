"""One connection to a server: a request goes out, an answer comes in. llhttp reads it, through the package httptools."""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any

from httptools import HttpParserError, HttpResponseParser

_LARGEST = 2**28  # bytes of an answer that is held in memory


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
    headers: Mapping[str, str]
    """By name in small letters; those that are no text are left out."""
    body: bytes
    """Nothing where it went into a file."""


class Connection(asyncio.Protocol):
    """Carries one request at a time; ``gone`` is called when it is closed."""

    def __init__(self, gone: Callable[[Connection], None]) -> None:
        self.is_free = True  # for another request
        self.free_since = 0.0  # monotonic seconds
        self._gone = gone
        self._coming: _Coming | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def ask(
        self, request: bytes, more: Iterable[bytes] = (), *, into: IO[bytes] | None = None, for_a_tunnel: bool = False
    ) -> Answer:
        """Send a request and wait for the whole answer, and no longer than until the head of it ``for_a_tunnel``.

        Raises:
            Unanswered, Stalled: none came. The connection is closed then, and also where the wait for it is cancelled.
        """
        self.is_free = False
        self._coming = coming = _Coming(into, for_a_tunnel)
        try:
            self._transport.write(request)
            for part in more:
                await self._may_write.wait()
                if coming.end.done():  # refused already
                    break
                self._transport.write(part)
            answer = await coming.end
        except BaseException:
            self.close()
            raise
        finally:
            self._coming = None
        self.is_free, self.free_since = coming.leaves_it_open, time.monotonic()
        if not self.is_free:
            self.close()
        return answer

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Go on encrypted, with the host at the other end of a tunnel."""
        loop = asyncio.get_running_loop()
        secured = await loop.start_tls(self._transport, self, context, server_hostname=host)
        assert secured is not None
        self._transport = secured

    def look(self, looks: int) -> None:
        """End an answer that has not gone on at so many looks in a row.

        Looks are counted and not seconds: if the loop stood still, what has come meanwhile is read first.
        """
        if self._coming is not None:
            self._coming.look(looks)

    def close(self) -> None:
        """Close it at once; who waits for an answer is told."""
        self.is_free = False
        self._transport.abort()

    # Called by the loop.

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        if self._coming is None:
            self.close()  # nothing was asked: mostly that it closes
        else:
            self._coming.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_free = False
        self._may_write.set()
        if self._coming is not None:
            self._coming.closed(exc)
        self._gone(self)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()


class _Coming:
    """An answer that is coming in."""

    def __init__(self, into: IO[bytes] | None, for_a_tunnel: bool) -> None:
        self.end: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.leaves_it_open = False
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_headers=True, lenient_optional_cr_before_lf=True)
        self._into = into
        self._for_a_tunnel = for_a_tunnel
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._unpacker: Any = None
        self._size = 0
        self._ends_with_connection = False
        self._came = 0  # bytes, and how many there were at the last look
        self._seen = 0
        self._quiet = 0  # looks since it last went on

    @property
    def has_begun(self) -> bool:
        """Whether there is more of it than that it will come."""
        return self._parser.get_status_code() >= 200

    def feed(self, data: bytes) -> None:
        """Read more of it."""
        self._came += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(Unanswered(f"no answer in HTTP came back ({error.__context__ or error})"))

    def closed(self, error: Exception | None) -> None:
        """Nothing more comes."""
        if self._ends_with_connection and error is None:
            self._is_whole()
        else:
            self._fail(
                Unanswered(f"the connection was closed before the answer was whole{f': {error}' if error else ''}")
            )

    def look(self, looks: int) -> None:
        """Fail when nothing more has come at so many looks in a row."""
        if not self.has_begun and self._into is None:  # it may take as long as it may take
            return
        seen, self._seen = self._seen, self._came
        self._quiet = self._quiet + 1 if seen == self._seen else 0
        if self._quiet >= looks:
            self._fail(Stalled())

    # Called by the parser.

    def on_message_begin(self) -> None:
        self.leaves_it_open = False
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.isascii() and value.isascii():
            self._headers[name.decode().strip().lower()] = value.decode().strip()

    def on_headers_complete(self) -> None:
        headers = self._headers
        if "gzip" in headers.get("content-encoding", ""):
            self._unpacker = zlib.decompressobj(wbits=31)
        if self._for_a_tunnel:
            self.on_message_complete()
        elif "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", ""):
            self._ends_with_connection = self.has_begun

    def on_body(self, part: bytes) -> None:
        if self._unpacker is not None:
            part = self._unpacker.decompress(part, _LARGEST)
        self._size += len(part)
        if self._into is not None:
            self._into.write(part)
        elif self._size > _LARGEST:
            self._fail(Unanswered(f"the answer is larger than {_LARGEST >> 20} MB"))
        else:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        if self.has_begun:
            self.leaves_it_open = self._parser.should_keep_alive() or self._for_a_tunnel
            self._is_whole()

    def _is_whole(self) -> None:
        if self._unpacker is not None and not self._unpacker.eof:
            self._fail(Unanswered("a packed answer was cut off"))
        elif not self.end.done():
            self.end.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._parts)))

    def _fail(self, error: Unanswered) -> None:
        if not self.end.done():
            self.end.set_exception(error)
