"""A loopback server of chat completions that costs little beside its clients, with latency and faults that can be set.

HTTP/1.1 by hand over asyncio's protocols on uvloop: keep-alive and Content-Length are all that its clients need.

    POST /v1/chat/completions   a completion of about 200 bytes that repeats the number N of "item N" in the prompt
    GET  /stats                 counts, CPU seconds and the time of the first request, since the last /set
    POST /set                   fields of Behaviour; the others fall back, and all counters start again

    python benchmarks/loopback/server.py        prints its URL and serves until its standard input ends
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

import orjson
import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ITEM = re.compile(r"item (\d+)")
_REASONS = {200: b"OK", 400: b"Bad Request", 404: b"Not Found", 429: b"Too Many Requests", 500: b"Internal Error"}
_WORDS = "It came in this morning, it was weighed, and it stands on the second shelf from the left, beside the door. "


@dataclass(frozen=True)
class Behaviour:
    """How the server answers: the seconds it takes, and the share of requests that meet each fault."""

    latency_ms: float = 0.0
    seed: int = 0
    too_many: float = 0.0  # 429
    too_many_wait: float = 0.0  # 429 with Retry-After
    retry_after_s: float = 1.0
    error: float = 0.0  # 500
    dropped: float = 0.0  # the connection is closed before any answer
    cut_off: float = 0.0  # Content-Length, half of the body, and the connection is closed
    no_json: float = 0.0  # 200 with a body that is no JSON
    broken_content: float = 0.0  # a good body whose content is broken JSON
    drip: float = 0.0  # a byte at a time
    drip_s: float = 0.002  # between two bytes
    silent: float = 0.0  # never any answer
    always: dict[str, int] = field(default_factory=dict)  # a word in the prompt -> the status it always meets

    @property
    def shares(self) -> list[tuple[str, float]]:
        """The faults that are set, with the sum of the shares up to each."""
        sums, total = [], 0.0
        for name in _FAULTS:
            if share := getattr(self, name):
                total += share
                sums.append((name, total))
        return sums


_FAULTS = (
    "too_many", "too_many_wait", "error", "dropped", "cut_off", "no_json", "broken_content", "drip", "silent"
)  # fmt: skip


class Served:
    """What is set and what was counted; all connections share one."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.latency_s = behaviour.latency_ms / 1000
        self.shares = behaviour.shares
        self.attempts: dict[int, int] = {}  # of each body, good or not
        self.good: set[int] = set()  # bodies that were answered
        self.counts: Counter[str] = Counter()
        self.requests = self.answered = self.doubles = 0
        self.first_request: float | None = None  # seconds since 1970
        self.cpu_s = time.process_time()

    def stats(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "answered": self.answered,  # with a whole, good completion
            "distinct": len(self.attempts),
            "doubles": self.doubles,  # asked again after a good answer
            "faults": dict(self.counts),
            "first_request": self.first_request,
            "cpu_s": time.process_time() - self.cpu_s,
        }

    def fault(self, prompt: str, attempt: int) -> str | None:
        """The fault that this attempt meets: the same one whoever asks and in whatever order."""
        if not self.shares:
            return None
        mixed = blake2b(f"{self.behaviour.seed} {attempt} {prompt}".encode(), digest_size=8).digest()
        drawn = int.from_bytes(mixed, "little") / 2**64
        return next((name for name, upto in self.shares if drawn < upto), None)


class Waiting:
    """Replies that are due later, in the order in which they were asked for: one timer for all."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: deque[tuple[float, Connection, bytes]] = deque()

    def add(self, after_s: float, connection: Connection, reply: bytes) -> None:
        self._due.append((time.monotonic() + after_s, connection, reply))
        if len(self._due) == 1:
            self._loop.call_later(after_s, self._send)

    def _send(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            _, connection, reply = self._due.popleft()
            connection.answer(reply)
        if self._due:
            self._loop.call_later(max(0.001, self._due[0][0] - now), self._send)


class Connection(asyncio.Protocol):
    """One connection; requests on it are answered one after the other."""

    served: Served  # the newest, for all connections
    waiting: Waiting

    def __init__(self) -> None:
        self._transport: Any = None
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        read = self._read = self._read + data if self._read else data
        while (head := read.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(read, 0, head)
            end = head + 4 + (int(length[1]) if length else 0)
            if len(read) < end:
                return
            body, first = read[head + 4 : end], read[: read.find(b" HTTP/")]
            read = self._read = read[end:]
            if first == b"POST /v1/chat/completions":
                self._complete(body)
            elif first == b"GET /stats":
                self._send(200, orjson.dumps(Connection.served.stats()))
            elif first == b"POST /set":
                Connection.served = Served(Behaviour(**orjson.loads(body)))
                self._send(200, orjson.dumps(asdict(Connection.served.behaviour)))
            else:
                self._send(404, _error("there is no such path"))

    def _complete(self, body: bytes) -> None:
        served = Connection.served
        served.requests += 1
        served.first_request = served.first_request or time.time()
        asked = orjson.loads(body)
        prompt = asked["messages"][-1]["content"]
        digest = hash(body)
        attempt = served.attempts[digest] = served.attempts.get(digest, 0) + 1
        served.doubles += digest in served.good
        for word, status in served.behaviour.always.items():
            if word in prompt:
                served.counts[word] += 1
                return self._send(status, _error(f"this can never be answered: {word}"))
        fault = served.fault(prompt, attempt)
        if fault is None:
            served.good.add(digest)
        if fault:
            served.counts[fault] += 1
            return self._fail(served, fault, asked, prompt, digest)
        reply = _message(200, _completion(asked, prompt))
        if served.latency_s:
            return Connection.waiting.add(served.latency_s, self, reply)
        return self.answer(reply)

    def answer(self, reply: bytes) -> None:
        """Send a whole, good reply."""
        if self._transport is not None:
            self._transport.write(reply)
            Connection.served.answered += 1

    def _send(self, status: int, body: bytes, headers: bytes = b"") -> None:
        if self._transport is not None:
            self._transport.write(_message(status, body, headers))

    def _fail(self, served: Served, fault: str, asked: dict[str, Any], prompt: str, digest: int) -> None:
        loop = asyncio.get_running_loop()
        wait_s = served.latency_s
        body = _completion(asked, prompt)
        good = _message(200, body)
        if fault == "too_many":
            loop.call_later(wait_s, self._send, 429, _error("too many requests"))
        elif fault == "too_many_wait":
            header = f"Retry-After: {served.behaviour.retry_after_s:g}\r\n".encode()
            loop.call_later(wait_s, self._send, 429, _error("too many requests"), header)
        elif fault == "error":
            loop.call_later(wait_s, self._send, 500, _error("something went wrong"))
        elif fault == "dropped":
            loop.call_later(wait_s, self._close, b"")
        elif fault == "cut_off":
            loop.call_later(wait_s, self._close, good[: len(good) - len(body) // 2])
        elif fault == "no_json":
            loop.call_later(wait_s, self._send, 200, b"<html><body>502 Bad Gateway</body></html>")
        elif fault == "broken_content":
            loop.call_later(wait_s, self._send, 200, _completion(asked, prompt, broken=True))
        elif fault == "drip":
            loop.call_later(wait_s, self._drip, good, served.behaviour.drip_s, digest)

    def _close(self, part: bytes) -> None:
        if self._transport is not None:
            if part:
                self._transport.write(part)
            self._transport.close()

    def _drip(self, rest: bytes, every_s: float, digest: int) -> None:
        if self._transport is None:
            return
        self._transport.write(rest[:1])
        if len(rest) > 1:
            asyncio.get_running_loop().call_later(every_s, self._drip, rest[1:], every_s, digest)
        else:  # good only now: a slow machine may take longer than a client waits
            Connection.served.answered += 1
            Connection.served.good.add(digest)


def _completion(asked: dict[str, Any], prompt: str, *, broken: bool = False) -> bytes:
    found = _ITEM.search(prompt)
    number = found[1] if found else "none"
    content = f"This is the item {number}. {_WORDS}It can be filed under its number, which is {number}."
    if "response_format" in asked or broken:
        content = orjson.dumps({"number": int(number) if found else None, "text": content}).decode()
    return orjson.dumps(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1_750_000_000,
            "model": asked["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content[: len(content) // 2] if broken else content},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 75, "completion_tokens": 50, "total_tokens": 125},
            "system_fingerprint": "fp_loopback",
        }
    )


def _error(message: str) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": "loopback_error", "code": None}})


def _message(status: int, body: bytes, headers: bytes = b"") -> bytes:
    head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nX-Request-Id: req_1\r\n%bContent-Length: %d\r\n\r\n"
    return head % (status, _REASONS[status], headers, len(body)) + body


async def serve() -> None:
    loop = asyncio.get_running_loop()
    Connection.served = Served(Behaviour())
    Connection.waiting = Waiting(loop)
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until whoever started it is gone


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
