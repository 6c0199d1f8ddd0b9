"""The sender: makes one attempt at a job, within its budget, and sees what came into the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from understudy.teachers.budget import NOTHING, Spending, most_spending, priced, spending_of, usual_prompt_tokens
from understudy.teachers.engine.jobs import Job
from understudy.teachers.engine.keeper import Keeper
from understudy.teachers.engine.lanes import Lane
from understudy.teachers.ledger_file import Failure, Refusal, Write
from understudy.teachers.request import Refused, Reply, TryAgain, WrongModel


class Sender:
    """Belongs to one loop; every method is called in it."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def reserve(self, lane: Lane, job: Job) -> bool:
        """Set aside what the next attempt can cost; ``False`` if that has to wait until others are settled.

        Raises:
            BudgetReached: it does not fit into the budget. And whatever else ``Budget.reserve`` raises.
        """
        call = job.asker.call
        job.most = _most(job) if call.budget or call.price else NOTHING
        if call.budget is None:
            return True
        if lane.outlives:  # and settles it
            reserve = lane.backend.reserve  # pyright: ignore[reportAttributeAccessIssue]
            return reserve(job.key, call.budget, job.most, call.price)
        if call.budget.reserve(job.most):
            job.budget = call.budget
            return True
        return False

    def settle(self, job: Job, spent: Spending = NOTHING) -> None:
        """Give back what was set aside for an attempt, and count what it came to."""
        if job.budget is not None:
            job.budget.settle(job.most, spent)
            job.budget = None

    async def send(self, lane: Lane, job: Job) -> list[Reply]:
        """Send a job, with its other samples, once; the replies, of which there may be fewer, are durable.

        Raises:
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
        """See to it that the ledger soon has all that it is to know."""
        self._keeper.flush()

    @property
    def is_behind(self) -> bool:
        """Whether it has not yet, as another process writes."""
        return self._keeper.is_behind

    async def _attempt(self, lane: Lane, job: Job) -> Sequence[Reply]:
        call, backend = job.asker.call, lane.backend
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
            spent = spending_of(replies, job.most)
            lane.has_answered = True
            is_counted = all(None not in (reply.prompt_tokens, reply.completion_tokens) for reply in replies)
            lane.endpoint.pace.answered(spent.tokens - job.tokens if is_counted else 0)
            return replies
        except TryAgain as fault:
            if fault.may_cost:
                spent = self._lost(job, fault.reason, fault.detail)
            raise
        except WrongModel as error:
            spent = self._lost(job, "wrong_model", str(error))
            raise
        except asyncio.CancelledError:
            if backend.costs and not lane.outlives:
                spent = self._lost(job, "given_up", "the run ended before the answer came")
            raise
        finally:
            self.settle(job, spent)

    def _lost(self, job: Job, reason: str, detail: str) -> Spending:
        """An attempt brought nothing and may have been billed: the most that it can have cost."""
        price, most = job.asker.call.price, job.most
        usd = most.usd if price and price.holds_for(most.tokens) else None
        self._keeper.note(Failure(job.key, job.asker.request.teacher, reason, detail, usd))
        return most


def usual_tokens(job: Job) -> int:
    """What an attempt is taken to use of a limit of tokens."""
    prompt = usual_prompt_tokens(job.asker.request.messages, job.asker.request.schema)
    return prompt + (job.asker.call.sampling.longest_answer or 0) * len(job.all)


def _most(job: Job) -> Spending:
    """The most that an attempt can cost."""
    call = job.asker.call
    return most_spending(job.asker.request, call.sampling, call.price, n=len(job.all))
