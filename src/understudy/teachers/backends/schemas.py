"""Whether an endpoint answers in the form of a schema: found out with the first request that has one, and remembered.

Some refuse ``response_format`` (400, or 500), some leave it out of account without a word.
"""

from __future__ import annotations

from contextlib import suppress

from understudy.errors import WorkspaceError
from understudy.teachers.ledger import Ledger
from understudy.teachers.request import Refused, Reply, TryAgain

_SERVER_ERRORS = ("500:", "501:")  # what other faults of a server say is not about the request


class Schemas:
    """What is known of one endpoint."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger, self._name = ledger, f"schemas: {name}"
        known = ledger.noted(self._name)
        self._can = None if known is None else known == "yes"
        self._has_failed = False  # with a schema; a fault of the server may pass
        self._is_in_doubt = False  # it did not do it, but would it do it without?

    @property
    def is_known(self) -> bool:
        """Whether it is; until then one request with a schema at a time should go there."""
        return self._can is not None

    def are_sent(self) -> bool:
        """Whether to send the next request with its schema."""
        return not self._is_in_doubt if self._can is None else self._can

    def answered(self, reply: Reply, with_schema: bool) -> None:
        """Learn of an answer.

        Raises:
            TryAgain: it is not in the form; it may be if that is asked for in words.
        """
        if self._can is not None:
            return
        text = reply.text.lstrip()
        is_json = text.startswith(("{", "["))
        if not is_json and (not text or reply.finish_reason in ("length", "content_filter")):
            return  # what is no answer says nothing
        if with_schema and not is_json:
            self._is_in_doubt = True
            raise TryAgain("no_schema", "the endpoint leaves schemas out of account", may_cost=True, otherwise=True)
        self._can = with_schema
        with suppress(WorkspaceError):  # it is found out again
            self._ledger.note(self._name, "yes" if with_schema else "no")

    def failed(self, error: Refused | TryAgain, with_schema: bool) -> Refused | TryAgain:
        """Learn of a failed attempt: what to raise for it."""
        is_refused = isinstance(error, Refused) and error.reason not in ("content_refused", "too_long")
        if self._can is not None or not (is_refused or error.detail.startswith(_SERVER_ERRORS)):
            return error
        if not with_schema:  # it was not for the schema
            self._has_failed = self._is_in_doubt = False
            return error
        self._is_in_doubt = self._has_failed or is_refused
        self._has_failed = True
        return TryAgain("no_schema", f"perhaps for its schema: {error.detail}", otherwise=True)
