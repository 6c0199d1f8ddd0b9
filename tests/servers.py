"""A small real chat-completions server on loopback for tests, with faults that can be set."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

Answer = str | Callable[[list[dict[str, str]]], str]


@dataclass
class ChatServer:
    """An endpoint in a thread of its own; use it in a ``with`` statement and change its fields at any time.

    ``answer`` is a fixed text or a function of the messages. ``faults`` are the statuses of the first requests, one
    each; ``fault_headers`` go with them. ``refuse`` maps a word to a status: a request that holds the word in its
    last message always fails so. ``echo_headers`` puts the request's headers and URL into every error body.
    ``raw`` bodies are sent as they are to the first requests, with status 200. It answers ``n`` times where that is
    asked, and with the least that a schema allows where the answer is no JSON; both can be switched off.
    """

    answer: Answer = "yes"
    latency_s: float = 0.0
    model: str | None = None  # what the server calls itself; None: what was asked for
    finish_reason: str = "stop"
    prompt_tokens: int = 10
    completion_tokens: int = 5
    faults: list[int] = field(default_factory=list)
    fault_headers: Mapping[str, str] = field(default_factory=dict)
    fault_body: Any = None
    refuse: Mapping[str, int] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)
    echo_headers: bool = False
    ignores_n: bool = False
    refuses_n: bool = False  # with 400
    ignores_schema: bool = False
    refuses_schema: int = 0  # with this status
    logprobs: bool = False  # sent where they are asked for
    usage: bool = True
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0

    @property
    def requests(self) -> int:
        """How many requests came."""
        return len(self.bodies)

    @property
    def doubles(self) -> int:
        """How many requests were asked before in the same words."""
        counts = Counter(orjson.dumps(body, option=orjson.OPT_SORT_KEYS) for body in self.bodies)
        return sum(counts.values()) - len(counts)

    @property
    def base_url(self) -> str:
        """What to write into ``teacher.base_url``."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> ChatServer:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._wait_for(self._start())
        return self

    def stop(self) -> None:
        """Stop answering; who comes now is refused a connection."""
        self._wait_for(self._runner.cleanup())

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._wait_for(self._forget())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait_for(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _forget(self) -> None:
        """Answer nobody who still waits."""
        late = asyncio.all_tasks() - {asyncio.current_task()}
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._counted)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": self.model or "tiny"}]})

    async def _counted(self, request: web.Request) -> web.Response:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._answer(request)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request) -> web.Response:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if self.faults:
            return self._fault(self.faults.pop(0), request, self.fault_headers)
        for word, status in self.refuse.items():
            if word in body["messages"][-1]["content"]:
                return self._fault(status, request, {})
        if self.refuses_n and "n" in body:
            return self._fault(400, request, {})
        if self.refuses_schema and "response_format" in body:
            return self._fault(self.refuses_schema, request, {})
        if self.raw:
            return web.Response(body=self.raw.pop(0), content_type="application/json")
        return web.json_response(self._completion(body), headers=dict(self.answer_headers))

    def _completion(self, body: dict[str, Any]) -> dict[str, Any]:
        choices = [self._choice(body, index) for index in range(1 if self.ignores_n else body.get("n", 1))]
        usage = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens * len(choices)}
        return {"model": self.model or body["model"], "choices": choices} | ({"usage": usage} if self.usage else {})

    def _choice(self, body: dict[str, Any], index: int) -> dict[str, Any]:
        text = self.answer if isinstance(self.answer, str) else self.answer(body["messages"])
        if "response_format" in body and not self.ignores_schema and not is_json(text):
            text = orjson.dumps(least(body["response_format"]["json_schema"]["schema"])).decode()
        message = {"role": "assistant", "content": text}
        choice = {"index": index, "message": message, "finish_reason": self.finish_reason}
        if self.logprobs and body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]}
        return choice

    def _fault(self, status: int, request: web.Request, headers: Mapping[str, str]) -> web.Response:
        message = f"made to fail with {status}"
        if self.echo_headers:
            message += f" for {request.url} with {dict(request.headers)}"
        body = self.fault_body or {"error": {"message": message}}
        return web.json_response(body, status=status, headers=dict(headers))


def is_json(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text), dict)
    except orjson.JSONDecodeError:
        return False


def least(schema: Mapping[str, Any]) -> Any:
    """The least value that a plain schema allows."""
    if "enum" in schema or "const" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if schema["type"] == "object":
        return {name: least(part) for name, part in schema["properties"].items()}
    return {"string": "", "integer": 0, "number": 0, "boolean": False, "array": []}[schema["type"]]
