"""One connection to a server: a request goes out, an answer comes in. The package httptools (llhttp) reads it."""

from __future__ import annotations

import asyncio
import re
import ssl
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import IO, Any, NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_LARGEST = 2**28  # bytes of an answer that is held in memory
_LARGEST_HEAD = 2**20
_BLANK_AFTER_NAME = re.compile(rb"(?m)^([!-9;-~]+)[ \t]+:")  # which some servers send, and the parser refuses


class Unanswered(Exception):
    """No answer came; the request may have been carried out all the same. The text may hold what is secret."""


class Unreachable(Unanswered):
    """Nobody is there: nothing was sent."""


class TimedOut(Unanswered):
    """It took longer than is waited."""


class Stalled(TimedOut):
    """An answer began to come and stopped."""


class Answer(NamedTuple):
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
        self.free_since = 0.0  # in the loop's time
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._parser = _parser(self)  # one for all answers: as it and this refer to each other, each would be garbage
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._answer: asyncio.Future[Answer] | None = None
        # Of the answer that is coming in:
        self._headers: dict[str, str] = {}
        self._head = b""
        self._head_size = self._size = 0  # bytes
        self._parts: list[bytes] = []
        self._into: IO[bytes] | None = None
        self._unpacker: Any = None
        self._has_begun = False  # there is more of it than that it will come
        self._ends_with_connection = self._is_for_tunnel = False
        self._quiet = 0  # looks since it, or the request, last went on

    async def ask(
        self,
        request: Iterable[bytes],
        *,
        until: float | None = None,
        into: IO[bytes] | None = None,
        for_tunnel: bool = False,
    ) -> Answer:
        """Send a request, in as many parts, and wait for the whole answer; ``for_tunnel`` only for its head.

        ``until`` is in the loop's time; the body goes ``into`` a file, if there is one.

        Raises:
            Unanswered, TimedOut, Stalled: none came. The connection is closed then, and where the wait is cancelled.
            OSError: the file cannot be written.
        """
        self.is_free = False
        self._answer = answer = self._loop.create_future()
        self._into, self._is_for_tunnel = into, for_tunnel
        self._has_begun = self._ends_with_connection = False
        self._head_size = self._size = self._quiet = 0
        timer = self._loop.call_at(until, self._fail, TimedOut()) if until is not None else None
        try:
            for part in request:
                await self._may_write.wait()
                if answer.done():  # refused before all was sent: no other request can follow
                    self.is_free = False
                    break
                self._transport.write(part)
            return await answer
        except BaseException:
            self.close()
            raise
        finally:
            self._answer = self._into = None
            self._parts, self._head = [], b""
            self.free_since = self._loop.time()
            if timer is not None:
                timer.cancel()

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Go on encrypted, with the host at the other end of a tunnel."""
        try:
            secured = await self._loop.start_tls(self._transport, self, context, server_hostname=host)
        except BaseException:
            self.close()
            self._gone(self)  # of an end in the handshake the loop tells only the caller
            raise
        assert secured is not None
        self._transport, self._parser = secured, _parser(self)

    def look(self, looks: int) -> None:
        """End an answer that has not gone on at so many looks in a row.

        Looks are counted and not seconds: if the loop stood still, what has come meanwhile is read first.
        """
        if self._answer is not None and (
            self._has_begun or self._into is not None
        ):  # what is written has to begin soon, too
            self._quiet += 1
            if self._quiet > looks:
                self._fail(Stalled())

    def close(self) -> None:
        """Close it at once; who waits for an answer is told that none came."""
        self.is_free = self._ends_with_connection = False
        self._transport.abort()

    # Called by the loop.

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._quiet = 0
        if self._answer is None or self._answer.done():  # nothing was asked: mostly that it closes
            self.close()
            return
        if not self._has_begun:
            self._head += data
        try:
            self._feed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            why = error.__context__ or error
            self._fail(why if isinstance(why, OSError) else Unanswered(f"what came back cannot be read ({why!r})"))

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            head, end, rest = self._head.partition(b"\r\n\r\n")
            mended = _BLANK_AFTER_NAME.sub(rb"\1:", head)
            if self._has_begun or mended == head:
                raise
            self._parser = _parser(self)
            self._parser.feed_data(mended + end + rest)

    def eof_received(self) -> None:
        self.is_free = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_free = False
        if self._ends_with_connection and exc is None:
            self._complete()
        else:
            self._fail(Unanswered(f"the connection ended before the answer was whole{f': {exc}' if exc else ''}"))
        self._gone(self)

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._quiet = 0
        self._may_write.set()

    # Called by the parser.

    def on_message_begin(self) -> None:
        self.is_free = False
        if self._answer is None or self._answer.done():
            raise ValueError("a second answer")
        self._headers, self._unpacker = {}, None

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > _LARGEST_HEAD:
            raise ValueError("headers without an end")
        if name.isascii() and value.isascii():
            self._headers[name.decode().lower()] = value.decode()

    def on_headers_complete(self) -> None:
        headers, status = self._headers, self._parser.get_status_code()
        self._has_begun = status >= 200
        if self._is_for_tunnel and self._has_begun:
            self._complete()
        elif "content-length" not in headers and "chunked" not in headers.get("transfer-encoding", "").lower():
            self._ends_with_connection = self._has_begun
            if self._into is not None and status == 200:  # over TLS it could have been cut off unseen
                self._fail(Unanswered("a file came of which nobody knows where it ends"))

    def on_body(self, part: bytes) -> None:
        if "gzip" in self._headers.get("content-encoding", "").lower():
            part = self._unpacked(part)
        self._size += len(part)
        if self._into is not None:
            self._into.write(part)
        elif self._size > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST >> 20} MB")
        else:
            self._parts.append(part)

    def on_message_complete(self) -> None:
        if self._has_begun:
            self.is_free = self._parser.should_keep_alive()
            self._complete()

    def _unpacked(self, part: bytes) -> bytes:
        """There may be several packages, one after the other."""
        parts: list[bytes] = []
        while part:
            if self._unpacker is None or self._unpacker.eof:
                self._unpacker = zlib.decompressobj(wbits=31)
            parts.append(self._unpacker.decompress(part, _LARGEST))
            if self._unpacker.unconsumed_tail:
                raise ValueError(f"it is larger than {_LARGEST >> 20} MB")
            part = self._unpacker.unused_data
        return b"".join(parts)

    def _complete(self) -> None:
        if self._unpacker is not None and not self._unpacker.eof:
            self._fail(Unanswered("a packed answer was cut off"))
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(Answer(self._parser.get_status_code(), self._headers, b"".join(self._parts)))
            self._may_write.set()  # what is left of the request is not sent

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
            self._may_write.set()


def _parser(connection: Connection) -> HttpResponseParser:
    """It takes what other clients take, of servers that are not quite right."""
    parser = HttpResponseParser(connection)
    parser.set_dangerous_leniencies(
        lenient_headers=True,
        lenient_chunked_length=True,
        lenient_optional_cr_before_lf=True,
        lenient_spaces_after_chunk_size=True,
    )
    return parser
