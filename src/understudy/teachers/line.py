"""A line: rows that wait for their replies and leave in the order in which they came."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, BinaryIO, TypeAlias, cast

import orjson

from understudy.errors import WorkspaceError
from understudy.records import Example, Origin
from understudy.teachers.engine.jobs import Call, Slot
from understudy.teachers.request import Refused, Reply, Request

_HELD = 2_000  # answered rows that are held in memory while they wait for an earlier one
_READ = 250  # of the others are read back at once

Known: TypeAlias = Callable[[Sequence[str]], Mapping[str, Reply]]
"""The replies that are in the ledger, by key."""

Repair: TypeAlias = Callable[[Request, Reply], Request | None]
"""What to ask once more where a reply cannot be read; ``None`` where it can, or nothing helps."""

Submit: TypeAlias = Callable[[Sequence[Slot]], None]
"""Has slots answered."""


class Line:
    """Rows in order. One thread stands at its head; replies come from others.

    Where one slow row holds up many that are answered, the later ones go to a file and their replies stay in the
    ledger, so that the teacher is kept busy and memory holds a number a row.
    """

    def __init__(self, submit: Submit, known: Known, repair: Repair | None = None) -> None:
        self._submit, self._known, self._repair = submit, known, repair
        self._rows: dict[int, Slot | int] = {}  # by place; a number is where the row is in the file
        self._head = self._tail = 0
        self._held = 0  # answered and in memory
        self._answered: deque[Slot] = deque()  # not looked at yet
        self._wake = threading.Event()
        self._needed: Slot | None = None
        self._enough = 0  # answers that wake who stands at the head
        self._file: BinaryIO | None = None
        self.unanswered = 0

    def has_room(self, few: int) -> bool:
        """Whether more rows may join: few are unanswered, and not many answered ones wait to be taken."""
        self._look()
        return self.unanswered <= few and (self._held < _HELD // 2 or not self._is_answered())

    def join(self, batch: Sequence[tuple[Example, Request]], call: Call) -> None:
        """Let some rows ask at the end of the line."""
        slots = [Slot(place, *row, call, self) for place, row in enumerate(batch, start=self._tail)]
        self._rows.update((slot.place, slot) for slot in slots)
        self._tail += len(slots)
        self.unanswered += len(slots)
        self._submit(slots)

    def answered(self, slot: Slot) -> None:
        """Called by the engine."""
        slot.is_told = True  # before it can be looked at, which may take that back
        self._answered.append(slot)
        if (slot is self._needed or len(self._answered) >= self._enough) and not self._wake.is_set():
            self._wake.set()

    def first(self, few: int) -> Slot | None:
        """Take the first row, when it is answered; ``None`` as soon as at most ``few`` rows are unanswered.

        With ``few`` = -1 it waits for the row however long; ``None`` is then the end of the line.
        """
        while True:
            self._look()
            slot = self._rows.get(self._head)
            if isinstance(slot, int):
                self._read()
                continue
            if slot is None:
                return None
            if _is_ready(slot):
                del self._rows[self._head]
                self._head += 1
                self._held -= 1
                return slot
            if self.unanswered <= few:
                return None
            self._needed, self._enough = slot, self.unanswered - few  # first this, then the look; answered() does
            if not slot.is_told and len(self._answered) < self._enough:  # both the other way round
                self._wake.wait()
            self._wake.clear()

    def waiting(self) -> list[Slot]:
        """The rows that are not answered."""
        return [slot for slot in self._rows.values() if isinstance(slot, Slot) and slot.outcome is None]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()

    def _is_answered(self) -> bool:
        first = self._rows.get(self._head)
        return isinstance(first, int) or (first is not None and _is_ready(first))

    def _look(self) -> None:
        again = []
        while self._answered:
            slot = self._answered.popleft()
            slot.job = None
            if request := self._repaired(slot):
                slot.unreadable, slot.request, slot.outcome, slot.is_told = slot.key, request, None, False
                again.append(slot)
                continue
            self.unanswered -= 1
            self._held += 1
            if self._held > _HELD and slot.place != self._head:
                self._set_down(slot)
        if again:
            self._submit(again)

    def _repaired(self, slot: Slot) -> Request | None:
        if self._repair is None or slot.unreadable or not isinstance(slot.outcome, Reply):
            return None
        return self._repair(slot.request, slot.outcome)

    def _set_down(self, slot: Slot) -> None:
        """Put a row into the file, if it and its outcome can be had again from there and the ledger."""
        outcome = slot.outcome
        refusal = (outcome.reason, outcome.detail, outcome.in_ledger) if isinstance(outcome, Refused) else None
        if refusal is None and not isinstance(outcome, Reply):
            return
        try:
            line = orjson.dumps([asdict(slot.example), slot.key, slot.unreadable, asdict(slot.request), refusal])
        except TypeError:  # a row that holds something else than text and numbers
            return
        if _example(orjson.loads(line)[0]) != slot.example:  # or something that JSON knows no more
            return
        if self._file is None:
            self._file = cast(BinaryIO, tempfile.TemporaryFile(prefix="understudy-"))  # noqa: SIM115  see close()
        place = self._file.seek(0, 2)
        self._file.write(line + b"\n")
        self._rows[slot.place] = place
        self._held -= 1
        self._calls = slot.call

    def _read(self) -> None:
        """Read the rows at the head back, up to the first that is in memory."""
        assert self._file is not None
        read: list[tuple[int, list[Any]]] = []
        for place in range(self._head, self._head + _READ):
            at = self._rows.get(place)
            if not isinstance(at, int):
                break
            self._file.seek(at)
            read.append((place, orjson.loads(self._file.readline())))
        replies = self._known([key for _, (_, key, *_, refusal) in read if refusal is None])
        for place, (example, key, unreadable, request, refusal) in read:
            if refusal is None and key not in replies:
                raise WorkspaceError(f"the ledger lost the reply {key}; was it pruned? Run the same command again")
            slot = Slot(place, _example(example), Request(**request), self._calls, self, key, unreadable)
            slot.outcome = Refused(*refusal[:2], in_ledger=refusal[2]) if refusal else replies[key]
            self._rows[place] = slot
            self._held += 1


def _is_ready(slot: Slot) -> bool:
    """Whether the row can leave: its outcome was looked at, so that nothing of it is asked again."""
    return slot.outcome is not None and slot.job is None


def _example(values: dict[str, Any]) -> Example:
    target, origin = values["target"], values["origin"]
    return Example(
        **values
        | {
            "target": tuple(target) if isinstance(target, list) else target,
            "origin": Origin(**origin) if origin else None,
            **{name: tuple(values[name]) for name in ("choices", "parents", "replies")},
        }
    )
