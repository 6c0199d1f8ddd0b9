"""The desk: where askers hand in what they want answered, and equal requests become one job."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from understudy.teachers.engine.jobs import Job, Outcome, Slot
from understudy.teachers.request import Reply, key_of


class Desk:
    """The jobs under way, by key. Any thread may use it."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()  # guards the jobs and their slots

    def enter(self, slots: Sequence[Slot], new: dict[str, Job]) -> None:
        """Let slots wait for the jobs that are under way, or for new ones, which are put into ``new`` by key."""
        contents = [slot.request.content() for slot in slots]
        with self._lock:
            for slot, content in zip(slots, contents, strict=True):
                slot.key = key_of(content)
                slot.job = self._jobs.get(slot.key)
                if slot.job is None:
                    slot.job = new[slot.key] = self._jobs[slot.key] = Job(slot.key, content, slot, [])
                slot.job.slots.append(slot)

    def leave(self, slots: Iterable[Slot]) -> None:
        """Slots wait no more."""
        with self._lock:
            for slot in slots:
                if (job := slot.job) is not None and slot in job.slots:
                    job.slots.remove(slot)
                    if job.asker is slot and job.slots:
                        job.asker = job.slots[0]

    def wanted(self, jobs: Iterable[Job]) -> list[Job]:
        """Those that somebody still waits for; the others are taken out."""
        with self._lock:
            for job in jobs:
                if not job.slots and self._jobs.get(job.key) is job:
                    del self._jobs[job.key]
            return [job for job in jobs if job.slots]

    def pass_on(self, job: Job) -> Job | None:
        """A new job for the slots of other places or budgets, where this one fails for a reason that is not theirs."""
        lane, budget = job.asker.lane, job.asker.call.budget
        with self._lock:
            others = [slot for slot in job.slots if slot.lane is not lane or slot.call.budget is not budget]
            if not others:
                return None
            job.slots = [slot for slot in job.slots if slot not in others]
            new = self._jobs[job.key] = Job(job.key, job.content, others[0], others)
            for slot in others:
                slot.job = new
            return new

    def settle(self, job: Job, outcome: Outcome, *, asked: bool = False) -> list[Slot]:
        """Take a job out and give its slots the outcome; they are to be told.

        Args:
            asked: whether the job was sent, so that its asker has counted it.
        """
        with self._lock:
            if self._jobs.get(job.key) is job:
                del self._jobs[job.key]
            slots, job.slots = job.slots, []
        for slot in slots:
            if isinstance(outcome, Reply) and not (asked and slot is job.asker):
                slot.call.meter.known(outcome)
            slot.outcome = outcome
        return slots

    def under_way(self) -> list[Job]:
        """All jobs."""
        with self._lock:
            return list(self._jobs.values())
