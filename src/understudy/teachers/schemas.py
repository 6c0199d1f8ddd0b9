"""Whether an endpoint answers in the form of a schema: found out with the first request that has one, and remembered.

Some refuse ``response_format`` (400, or 500), some leave it out of account without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from understudy.teachers.ledger import Ledger
from understudy.teachers.request import Refused, TryAgain


class Schemas:
    """What is known of one endpoint. Until it is known, one request at a time goes there."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger, self._name = ledger, f"schemas: {name}"
        known = ledger.noted(self._name)
        self._can = None if known is None else known == "yes"
        self._is_in_doubt = False  # it did not do it, but would it do it without?
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[bool]:
        """Whether to send the next request with its schema."""
        if self._can is None:
            async with self._lock:
                if self._can is None:
                    yield not self._is_in_doubt
                    return
        yield bool(self._can)

    def answered(self, text: str, with_schema: bool) -> None:
        """Learn of an answer.

        Raises:
            TryAgain: it is not in the form; it may be if that is asked for in words.
        """
        if self._can is not None:
            return
        if with_schema and not text.lstrip().startswith(("{", "[")):
            self._is_in_doubt = True
            raise TryAgain("no_schema", "the endpoint leaves schemas out of account", may_cost=True, otherwise=True)
        self._can = with_schema
        self._ledger.note(self._name, "yes" if with_schema else "no")

    def failed(self, error: Refused | TryAgain, with_schema: bool) -> Refused | TryAgain:
        """Learn of a failed attempt: what to raise for it."""
        if self._can is not None or not (isinstance(error, Refused) or error.reason == "server_error"):
            return error
        self._is_in_doubt = with_schema
        return (
            TryAgain("no_schema", f"perhaps for its schema: {error.detail}", otherwise=True) if with_schema else error
        )
