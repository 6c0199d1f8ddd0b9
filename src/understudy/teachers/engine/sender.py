"""The sender: makes one attempt at a job, within its budget, and sees what came into the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from understudy.teachers.budget import Budget, Spending, most_spending, priced, spending_of, usual_prompt_tokens
from understudy.teachers.engine.jobs import Job
from understudy.teachers.engine.keeper import Keeper
from understudy.teachers.engine.lanes import Lane
from understudy.teachers.ledger_file import Failure, Refusal, Write
from understudy.teachers.request import Refused, Reply, TryAgain, WrongModel


class Sender:
    """Belongs to one loop; every method is called in it."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._settled = asyncio.Event()  # some budget may have room again

    async def send(self, lane: Lane, job: Job) -> list[Reply]:
        """Send a job, with its other samples, once; the replies, of which there may be fewer, are durable.

        Raises:
            BudgetReached: it does not fit into the budget.
            Refused, TryAgain, TeacherError: what the back end says.
        """
        replies = await self._attempt(lane, job)
        call, teacher = job.asker.call, job.asker.request.teacher
        durable = [
            self._keeper.keep(Write(one.key, one.content, teacher, reply, call.price))
            for one, reply in zip(job.all, replies, strict=False)
        ]
        return [await reply for reply in durable]

    def keep_refusal(self, job: Job, refused: Refused) -> None:
        """Have the ledger know that a request was refused for good."""
        self._keeper.note(Refusal(job.key, job.content, job.asker.request.teacher, refused.reason, refused.detail))
        refused.in_ledger = True

    def flush(self) -> None:
        """See to it that the ledger has all that it is to know."""
        self._keeper.flush()

    async def _attempt(self, lane: Lane, job: Job) -> Sequence[Reply]:
        call, backend = job.asker.call, lane.backend
        most = _most(job) if call.budget or call.price else Spending()
        if call.budget is not None:
            await self._reserve(lane, call.budget, most)
        job.attempts += 1
        spent = Spending(requests=1)
        try:
            if job.others:
                samples = backend.samples  # pyright: ignore[reportAttributeAccessIssue]  a lane that takes n has it
                replies = await samples([one.asker.request for one in job.all], job.asker.example)
            else:
                replies = [await backend.complete(job.asker.request, job.asker.example)]
            if not backend.costs or call.price or job.attempts > 1:
                free = {} if backend.costs else {"usd": 0.0}
                replies = priced([replace(reply, attempts=job.attempts, **free) for reply in replies], call.price)
            spent = spending_of(replies, most)
            lane.has_answered = True
            is_counted = all(None not in (reply.prompt_tokens, reply.completion_tokens) for reply in replies)
            lane.endpoint.pace.answered(spent.tokens - job.tokens if is_counted else 0)
            return replies
        except TryAgain as fault:
            if fault.may_cost:
                spent = most
                usd = most.usd if call.price and call.price.holds_for(most.tokens) else None
                self._keeper.note(Failure(job.key, job.asker.request.teacher, fault.reason, fault.detail, usd))
            raise
        except (asyncio.CancelledError, WrongModel):
            spent = most
            raise
        finally:
            if call.budget is not None:
                call.budget.settle(most, spent)
                self._settled.set()

    async def _reserve(self, lane: Lane, budget: Budget, most: Spending) -> None:
        while not budget.reserve(most):
            self._settled.clear()
            with suppress(TimeoutError):  # a teacher on another ledger may share the budget, and settles elsewhere
                await asyncio.wait_for(self._settled.wait(), timeout=0.2)
            if lane.failed:
                raise lane.failed


def usual_tokens(job: Job) -> int:
    """What an attempt is taken to use of a limit of tokens."""
    prompt = usual_prompt_tokens(job.asker.request.messages, job.asker.request.schema)
    return prompt + (job.asker.call.sampling.longest_answer or 0) * len(job.all)


def _most(job: Job) -> Spending:
    """The most that an attempt can cost."""
    call = job.asker.call
    return most_spending(job.asker.request, call.sampling, call.price, n=len(job.all))
