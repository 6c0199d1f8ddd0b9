"""A teacher that is not there: what the ledger holds is its answer, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from understudy.errors import TeacherError
from understudy.records import Dropped, Example, Row
from understudy.teachers.ledger import Ledger
from understudy.teachers.request import Backend, Refused, Reply, Request

if TYPE_CHECKING:
    from understudy.teachers.teacher import Teacher

NOT_IN_LEDGER = "not_in_ledger"
"""Why a row is dropped whose reply is not there and may not be asked for."""

Missing: TypeAlias = Callable[[Request], None]
"""Told of a request that the ledger cannot answer."""


class Offline:
    """Stands in for a back end, with its name in every key. It is asked only what the ledger cannot answer."""

    costs = False

    def __init__(self, backend: Backend, missing: Missing | None = None) -> None:
        self.identity, self.model = backend.identity, backend.model
        self.endpoint = f"offline {backend.endpoint}"
        self.shown = "offline"
        if matched := getattr(backend, "matched", None):
            self.matched = matched
        self._missing = missing

    def attach(self, ledger: Ledger) -> None:
        """Look there for how requests were refused."""
        self._ledger = ledger

    def start(self) -> None:
        """Nothing is needed."""

    async def complete(self, request: Request, example: Example) -> Reply:
        """Refuse, as the teacher did where it was asked; who collects what is missing may ask it again."""
        if self._missing is not None:
            self._missing(request)
        elif known := self._ledger.refusal(request.key):
            raise Refused(known.reason, known.detail, in_ledger=True)
        raise Refused(NOT_IN_LEDGER, "the ledger holds no reply to this, and nothing is sent")

    async def aclose(self) -> None:
        """Nothing is open."""


class RepliesMissing(TeacherError):
    """A step cannot be made: the ledger lacks replies, and nothing may be sent."""


def all_answered(rows: Iterable[Row], teachers: Sequence[Teacher], step: str) -> Iterator[Row]:
    """The rows of a step of its own offline teachers.

    Raises:
        RepliesMissing: the ledger lacked replies; only after all rows were looked at.
    """
    dropped = 0
    for row in rows:
        dropped += isinstance(row, Dropped) and row.reason == NOT_IN_LEDGER
        yield row
    used = [teacher.usage() for teacher in teachers]
    known = sum(one.from_ledger for one in used)
    if missing := sum(one.requests for one in used) or dropped:  # a recipe need not pass on every dropped sample
        raise RepliesMissing(f"{missing:,} of the {missing + known:,} replies that {step} needs")


def all_missing(errors: Sequence[tuple[str, BaseException]]) -> RepliesMissing:
    """One error of those of several arms, by the arms' names; arms that share a step have its error in common."""
    arms: dict[BaseException, list[str]] = {}
    for arm, error in errors:
        arms.setdefault(error, []).append(arm)
    said = "; ".join(f"{error} (arm {', '.join(names)})" for error, names in arms.items())
    return RepliesMissing(
        f"--offline: the ledger lacks {said}; what comes after these steps was not looked at. Import the cassette that "
        "holds them (understudy cassette import FILE), or run without --offline"
    )
