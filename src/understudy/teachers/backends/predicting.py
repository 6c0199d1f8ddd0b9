"""A function on this machine as a teacher, such as the predict of a trained student."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import orjson

from understudy.records import Example
from understudy.teachers.request import Reply, Request

Predict: TypeAlias = Callable[[Sequence[str]], Sequence[tuple[str, float]]]
"""Texts to one answer each and its log-probability."""


class Predicting:
    """Answers by a function; the text that it is asked about is the last message's content.

    All requests that wait are one batch, computed in a thread of its own. It draws nothing, so sampling changes no
    answer, and samples of one request are equal.

    Args:
        identity: what decides the answers, as a hash of weights: it stands in the key of every request.
        name: what the teacher is called in its replies.
    """

    costs = False
    model = ""  # the identity says it all

    def __init__(self, predict: Predict, identity: str, name: str) -> None:
        self.identity = identity
        self.endpoint = f"predicting {identity}"
        self.shown = name
        self._predict = predict
        self._waiting: list[tuple[str, asyncio.Future[Reply]]] = []
        self._work: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="understudy-predict")

    def start(self) -> None:
        """Nothing is needed."""

    async def complete(self, request: Request, example: Example) -> Reply:
        """Answer one request in the next batch.

        Raises: what the function raises.
        """
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request.messages[-1]["content"], reply))
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._answer_all())
        return await reply

    async def aclose(self) -> None:
        """Let go; the batch at work is computed to its end, for nobody."""
        if self._work is not None:
            self._work.cancel()
            await asyncio.wait([self._work])
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _answer_all(self) -> None:
        await asyncio.sleep(0)  # let the others of this moment line up
        while batch := [(text, reply) for text, reply in self._waiting if not reply.done()]:
            self._waiting = []
            try:
                replies = await self._answers([text for text, _ in batch])
                given = list(zip(batch, replies, strict=True))
            except Exception as error:
                for _, waiting in batch:
                    if not waiting.done():  # it may be cancelled
                        waiting.set_exception(error)
                continue
            for (_, waiting), reply in given:
                if not waiting.done():
                    waiting.set_result(reply)

    async def _answers(self, texts: list[str]) -> list[Reply]:
        began = time.perf_counter()
        answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._predict, texts)
        took_s = time.perf_counter() - began
        return [
            Reply(text, usd=0.0, model=self.shown, latency_s=took_s, raw=orjson.dumps({"mean_logprob": float(logprob)}))
            for text, logprob in answers
        ]
