"""A small real server of OpenAI's batch API on loopback for tests, with faults that can be set."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from servers import ChatServer

_STEPS = ("validating", "in_progress", "finalizing")


@dataclass
class Made:
    """One batch."""

    id: str
    input_file_id: str
    metadata: dict[str, str]
    requests: list[dict[str, Any]]
    status: str = "validating"
    files: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class BatchServer(ChatServer):
    """An endpoint in a thread of its own; use it in a ``with`` statement and change its fields at any time.

    A batch takes a step at each look at it, in the end it answers its requests, last one first. ``endings`` are those
    of the first batches: ``failed``, or ``expired`` or ``cancelled`` with the first half answered; ``says_expired``
    gives the others a line in the error file. ``room`` is how many requests may be in open batches. ``refuse`` and
    ``faults`` are those of ChatServer, the former for requests, the latter for calls. ``lost_creates`` first batches
    are made without an answer to the call. ``is_held`` keeps batches from ending, ``is_down`` drops every connection.
    ``late_files`` is how often a file of answers is asked for in vain, ``nameless`` how often a batch that is over
    names none; ``unknown_looks`` are the numbers of looks at which no batch is known. ``hangs_at`` is where it stops
    answering: ``upload``, ``before create``, ``after create`` or ``content``.
    """

    endings: list[str] = field(default_factory=list)
    says_expired: bool = False
    room: int = 10**9
    lost_creates: int = 0
    keeps_metadata: bool = True
    is_held: bool = False
    is_down: bool = False
    late_files: int = 0
    nameless: int = 0
    unknown_looks: set[int] = field(default_factory=set)
    looks: int = 0
    hangs_at: str = ""
    hangs: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, Made] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    uploads: int = 0

    @property
    def sizes(self) -> list[int]:
        """How many requests each batch has."""
        return [len(one.requests) for one in self.batches.values()]

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**28, middlewares=[self._meddle])
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._look)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    @web.middleware
    async def _meddle(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.calls.append(f"{request.method} {request.path}")
        self.headers.append(dict(request.headers))
        if self.is_down:
            return _dropped(request)
        if self.faults:
            await request.read()
            return self._fault(self.faults.pop(0), request, self.fault_headers)
        return await handler(request)

    async def _pass(self, place: str) -> None:
        if self.hangs_at == place:
            self.hangs += 1
            while self.hangs_at == place:
                await asyncio.sleep(0.01)
            raise web.HTTPServiceUnavailable

    async def _upload(self, request: web.Request) -> web.Response:
        await self._pass("upload")
        assert request.content_length, "not every provider takes chunks"
        form = await request.post()
        assert form["purpose"] == "batch"
        file = form["file"]
        assert isinstance(file, web.FileField)
        self.uploads += 1
        name = f"file-{self.uploads}"
        self.files[name] = file.file.read()
        return web.json_response({"id": name, "object": "file", "purpose": "batch", "bytes": len(self.files[name])})

    async def _create(self, request: web.Request) -> web.Response:
        wish = orjson.loads(await request.read())
        assert (wish["endpoint"], wish["completion_window"]) == ("/v1/chat/completions", "24h")
        await self._pass("before create")
        requests = [orjson.loads(line) for line in self.files[wish["input_file_id"]].splitlines()]
        assert len({one["custom_id"] for one in requests}) == len(requests)
        made = Made(f"batch_{len(self.batches) + 1}", wish["input_file_id"], wish["metadata"], requests)
        waiting = sum(len(one.requests) for one in self.batches.values() if one.status in _STEPS)
        self.batches[made.id] = made
        if waiting + len(requests) > self.room:
            made.status = "failed"
            made.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}]
        await self._pass("after create")
        if self.lost_creates:
            self.lost_creates -= 1
            return _dropped(request)
        return web.json_response(self._shown(made))

    async def _list(self, request: web.Request) -> web.Response:
        newest = list(reversed(self.batches.values()))
        names = [one.id for one in newest]
        start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        some = newest[start : start + 2]  # pages of two
        more = start + 2 < len(newest)
        return web.json_response({"object": "list", "data": [self._shown(one) for one in some], "has_more": more})

    async def _look(self, request: web.Request) -> web.Response:
        made = self.batches.get(request.match_info["id"])
        self.looks += 1
        if made is None or self.looks in self.unknown_looks:
            return self._fault(404, request, {})
        if made.status in _STEPS[:2] and not (self.is_held and made.status == "in_progress"):
            made.status = _STEPS[_STEPS.index(made.status) + 1]
        elif made.status == "finalizing":
            self._end(made)
        shown = self._shown(made)
        if made.files and self.nameless:
            self.nameless -= 1
            shown |= {"output_file_id": None, "error_file_id": None}
        return web.json_response(shown)

    async def _content(self, request: web.Request) -> web.StreamResponse:
        await self._pass("content")
        if self.late_files:
            self.late_files -= 1
            return self._fault(404, request, {})
        content = self.files.get(request.match_info["id"])
        return web.Response(body=content) if content is not None else self._fault(404, request, {})

    def _end(self, made: Made) -> None:
        made.status = self.endings.pop(0) if self.endings else "completed"
        if made.status == "failed":
            fault = {"code": "invalid_json_line", "message": "This line is not parseable", "line": 1}
            made.errors = [fault]
            return
        count = len(made.requests) if made.status == "completed" else len(made.requests) // 2
        replies, faults = [], []
        for one in reversed(made.requests[:count]):
            line = self._answered(one)
            (replies if line["response"]["status_code"] == 200 else faults).append(line)
        if self.says_expired:
            late = {"code": f"batch_{made.status}", "message": "This request could not be executed"}
            faults += [
                {"custom_id": one["custom_id"], "response": None, "error": late} for one in made.requests[count:]
            ]
        for name, lines in (("output", replies), ("error", faults)):
            made.files[name] = f"{made.id}-{name}" if lines else ""
            self.files[made.files[name]] = b"".join(orjson.dumps(line) + b"\n" for line in lines)

    def _answered(self, one: dict[str, Any]) -> dict[str, Any]:
        body, status = one["body"], 200
        self.bodies.append(body)
        for word, refused in self.refuse.items():
            status = refused if word in body["messages"][-1]["content"] else status
        answer = self._completion(body) if status == 200 else {"error": {"message": f"made to fail with {status}"}}
        if self.raw:
            answer = orjson.loads(self.raw.pop(0))
        return {
            "id": "batch_req_1",
            "custom_id": one["custom_id"],
            "response": {"status_code": status, "request_id": "r", "body": answer},
            "error": None,
        }

    def _shown(self, made: Made) -> dict[str, Any]:
        is_over = made.status not in _STEPS
        return {
            "id": made.id,
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "input_file_id": made.input_file_id,
            "status": made.status,
            "created_at": int(time.time()),
            "metadata": made.metadata if self.keeps_metadata else None,
            "errors": {"object": "list", "data": made.errors} if made.errors else None,
            "output_file_id": made.files.get("output"),
            "error_file_id": made.files.get("error"),
            "request_counts": {
                "total": len(made.requests),
                "completed": len(made.requests) if is_over else 0,
                "failed": 0,
            },
        }


def _dropped(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()
