"""HTTP to one endpoint: a pool of connections, and what goes along with each request."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from socket import SOCK_STREAM, getaddrinfo
from typing import IO, Any, NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit
from uuid import uuid4

from aiohappyeyeballs import start_connection

from understudy.teachers.backends.connection import Answer, Connection, Stalled, TimedOut, Unanswered, Unreachable

__all__ = ["Answer", "Http", "Stalled", "TimedOut", "Unanswered", "Unreachable", "is_url"]

_CHUNK = 2**16  # bytes of a file that are read at once
_LOOKS = 4  # in a row at an answer that does not go on: it has stalled
_FREE_S = 60.0  # a connection that was not used for longer may have died unnoticed
_RESOLVED_S = 30.0  # how long an address is known
_NEXT_ADDRESS_S = 0.25  # after which the next address of a host is tried beside the one before
_MOVED = frozenset({301, 302, 303, 307, 308})
_MOST_MOVES = 10
_PORTS = {"http": 80, "https": 443}


class Http:
    """HTTP/1.1 to one endpoint. Calls come from one event loop.

    Args:
        headers: sent with every request.
        proxy: the URL of a proxy; ``None`` is none, whatever the environment says.
        timeout_s: of a request, from its beginning to the last byte of its answer.
        stall_timeout_s: between two parts of an answer; ``None``: as long as the request may take.

    Raises:
        ValueError: the proxy is no address of one.
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
    ) -> None:
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._proxy, self._for_proxy = _proxy(proxy) if proxy else (None, "")
        self._timeout_s = timeout_s
        self._connect_timeout_s = min(connect_timeout_s, 0.9 * timeout_s)  # what ends first says that nothing was sent
        self._look_s = (stall_timeout_s or timeout_s) / _LOOKS
        self.has_connected = False
        self._connections: set[Connection] = set()
        self._free: defaultdict[_Origin, list[Connection]] = defaultdict(list)  # the last one is used first
        self._resolved: dict[tuple[str, int], tuple[float, list[Any]]] = {}  # until when, and addresses
        self._resolving = asyncio.Lock()
        self._looking: asyncio.TimerHandle | None = None

    async def get(self, url: str) -> Answer:
        """Ask for what is at a URL."""
        to = _target(url)
        return await self._ask(to, [self._head("GET", to)], within_s=self._timeout_s)

    async def post(self, url: str, body: bytes) -> Answer:
        """Send a body of JSON."""
        to = _target(url)
        head = self._head("POST", to, f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n")
        return await self._ask(to, [head + body], within_s=self._timeout_s)

    async def upload(self, url: str, file: IO[bytes], size: int, *, purpose: str, more_s: float) -> Answer:
        """Send a form of a purpose and a file of ``size`` bytes, for which it may take ``more_s`` longer."""
        to, mark = _target(url), uuid4().hex
        before = (
            f'--{mark}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="requests.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        ).encode()
        after = f"\r\n--{mark}--\r\n".encode()
        kind = f"Content-Type: multipart/form-data; boundary={mark}\r\n"
        head = self._head("POST", to, f"{kind}Content-Length: {len(before) + size + len(after)}\r\n")

        def parts() -> Iterator[bytes]:
            file.seek(0)
            begun = head + before
            while chunk := file.read(_CHUNK):
                yield begun + chunk
                begun = b""
            yield begun + after

        return await self._ask(to, parts(), within_s=self._timeout_s + more_s)

    async def fetch(self, url: str, into: IO[bytes]) -> Answer:
        """Write what is at a URL into a file.

        Each part is waited for as long as else for a whole answer. It may lie in a store elsewhere: then ``headers``
        are not sent there.
        """
        origin = _target(url).origin
        for _ in range(_MOST_MOVES):
            to = _target(url)
            answer = await self._ask(to, [self._head("GET", to, is_here=to.origin == origin)], into=into)
            if answer.status not in _MOVED or not (place := answer.headers.get("location")):
                return answer
            try:
                url = urljoin(url, place)
                _target(url)
            except ValueError:
                raise Unanswered("the endpoint redirects to no address") from None
            into.seek(0)
            into.truncate()
        raise Unanswered("the endpoint redirects without an end")

    async def aclose(self) -> None:
        """Close the connections; nothing more can be sent."""
        if self._looking:
            self._looking.cancel()
        for connection in self._connections:
            connection.close()
        await asyncio.sleep(0)  # for the loop to close them

    def _head(self, method: str, to: _Target, more: str = "", *, is_here: bool = True) -> bytes:
        path, own = to.path, self._headers if is_here else ""
        if self._proxy and to.scheme == "http":
            path, own = f"http://{to.name}{path}", own + self._for_proxy
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {to.name}\r\nUser-Agent: understudy\r\nAccept: */*\r\n"
            f"Accept-Encoding: gzip\r\n{own}{more}\r\n"
        ).encode()

    async def _ask(
        self,
        to: _Target,
        request: Iterable[bytes],
        *,
        within_s: float | None = None,
        into: IO[bytes] | None = None,
    ) -> Answer:
        until = asyncio.get_running_loop().time() + within_s if within_s is not None else None
        connection = self._free_one(to) or await self._open(to)
        answer = await connection.ask(request, until=until, into=into)
        if connection.is_free:
            self._free[to.origin].append(connection)
        else:
            connection.close()
        return answer

    def _free_one(self, to: _Target) -> Connection | None:
        """The connection that was used last: if fewer are needed, the others are not kept alive."""
        free = self._free[to.origin]
        while free:
            connection = free.pop()
            if connection.is_free and asyncio.get_running_loop().time() - connection.free_since < _FREE_S:
                return connection
            connection.close()
        return None

    async def _open(self, to: _Target) -> Connection:
        over, place = self._proxy or to, f"{to.name} through {self._proxy.name}" if self._proxy else to.name
        connection = Connection(self._connections.discard)
        secure = {"ssl": self._trusting, "server_hostname": to.host} if to.scheme == "https" else {}
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                addresses = await self._addresses(over.host, over.port)
                socket = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S)
                loop = asyncio.get_running_loop()
                await loop.create_connection(lambda: connection, sock=socket, **({} if self._proxy else secure))
                self._connections.add(connection)
                if self._proxy and secure:
                    await self._tunnel(connection, to)
        except TimeoutError:
            raise Unreachable(f"no connection to {place} within {self._connect_timeout_s:g} s") from None
        except (OSError, Unanswered) as error:
            raise Unreachable(f"no connection to {place}: {_said(error)}") from None
        self.has_connected = True
        if self._looking is None:
            self._look_later()
        return connection

    async def _tunnel(self, connection: Connection, to: _Target) -> None:
        """Have the proxy pass on what is sent from now on, and send it encrypted."""
        there = f"{to.name}:443" if to.port == 443 else to.name
        request = f"CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n{self._for_proxy}\r\n"
        answer = await connection.ask([request.encode()], for_tunnel=True)
        if answer.status != 200:
            connection.close()
            raise Unanswered(f"the proxy answered {answer.status}")
        await connection.secure(self._trusting, to.host)

    async def _addresses(self, host: str, port: int) -> list[Any]:
        async with self._resolving:  # of many connections at once the first one asks
            until, addresses = self._resolved.get((host, port), (0.0, []))
            if time.monotonic() > until:
                addresses = await _found(host, port)
                self._resolved[host, port] = time.monotonic() + _RESOLVED_S, addresses
            return addresses

    @cached_property
    def _trusting(self) -> ssl.SSLContext:
        """Those whom the system trusts, or SSL_CERT_FILE and SSL_CERT_DIR name."""
        context, paths = ssl.create_default_context(), ssl.get_default_verify_paths()
        if not (paths.cafile or paths.capath):
            import certifi  # some installations of Python know of none

            context.load_verify_locations(certifi.where())
        return context

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._look_s, self._look)

    def _look(self) -> None:
        """One timer for all answers: each would have to set its own anew with every part."""
        for connection in self._connections:
            connection.look(_LOOKS)
        self._look_later()


def is_url(text: str) -> bool:
    """Whether it is an address that a request can go to."""
    try:
        return bool(_target(text))
    except ValueError:
        return False


_Origin = tuple[str, str, int]


class _Target(NamedTuple):
    """Where a request goes."""

    scheme: str
    host: str
    port: int
    name: str  # host and port as a header has them
    path: str

    @property
    def origin(self) -> _Origin:
        """Whose connection it is."""
        return self[:3]


@lru_cache(maxsize=1024)
def _target(url: str) -> _Target:
    """Raises ValueError: it is no address."""
    parts = urlsplit(url)
    host = (parts.hostname or "").encode("idna").decode()
    if parts.scheme not in _PORTS or not re.fullmatch(r"[\w.:%~-]+", host):
        raise ValueError("it is no address")
    name = f"[{host}]" if ":" in host else host
    port = parts.port or _PORTS[parts.scheme]
    if port != _PORTS[parts.scheme]:
        name = f"{name}:{port}"
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    if parts.query:
        path += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~?[]")
    return _Target(parts.scheme, host, port, name, path)


def _proxy(url: str) -> tuple[_Target, str]:
    """Where a proxy is, and the header that lets one in.

    Raises:
        ValueError: it is another kind of proxy, or no address.
    """
    to, parts = _target(url), urlsplit(url)
    if to.scheme != "http":
        raise ValueError("it is no proxy that speaks HTTP")
    if not parts.username:
        return to, ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return to, f"Proxy-Authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"


async def _found(host: str, port: int) -> list[Any]:
    """The addresses of a host. The thread is one that nobody waits for at an end: a dead resolver takes very long."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[Any]] = loop.create_future()

    def tell(error: OSError | None, addresses: list[Any]) -> None:
        if not found.done():
            found.set_exception(error) if error else found.set_result(addresses)

    def resolve() -> None:
        try:
            outcome = None, getaddrinfo(host, port, type=SOCK_STREAM)
        except OSError as error:
            outcome = error, []
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, *outcome)

    threading.Thread(target=resolve, name="understudy-resolve", daemon=True).start()
    return await found


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        return said or str(error) or type(error).__name__
    return str(error) or type(error).__name__
