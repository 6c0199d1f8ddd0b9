"""What a study may have spent, in a file that outlives a kill."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import orjson

from understudy.errors import WorkspaceError
from understudy.teachers.budget import Spending


class SpentFile:
    """What the study may have spent so far, in a file that outlives a kill: one small write a request, not flushed."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.payer = uuid4().hex
        """The file's own name, by which what a batch still owes is known again. ``read`` finds it."""

    def read(self) -> Spending:
        content = os.pread(self._handle, 1000, 0)
        try:
            told = orjson.loads(content) if content.strip() else {"usd": 0.0, "tokens": 0, "requests": 0}
            self.payer = str(told.get("payer", self.payer))
            return Spending(usd=float(told["usd"]), tokens=int(told["tokens"]), requests=int(told["requests"]))
        except (orjson.JSONDecodeError, TypeError, ValueError, KeyError, AttributeError):
            raise WorkspaceError(
                "spent.json of the run folder does not hold what the study has spent; delete it to count from nothing"
            ) from None

    def write(self, spent: Spending) -> None:
        os.pwrite(self._handle, orjson.dumps(asdict(spent) | {"payer": self.payer}).ljust(200), 0)

    def close(self) -> None:
        handle, self._handle = self._handle, -1  # what comes late is an error and lands in no other file
        os.close(handle)
