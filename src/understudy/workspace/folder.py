"""One study's run folder: locked while it is used, its steps shared by arms, its test split fixed for good."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
import yaml
from filelock import FileLock, Timeout

from understudy.errors import WorkspaceError
from understudy.records import Row, digest
from understudy.workspace.files import disk_errors, write_atomically
from understudy.workspace.rows import MANIFEST, Rows, write_rows


class Workspace:
    """Owns a run folder and its lock; a context manager.

    The lock is the operating system's, so a process that died holds it no longer.

    Raises:
        WorkspaceError: another process works in the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[str, Future[Rows]] = {}
        self._guard = threading.Lock()
        with disk_errors(folder):
            if folder.exists() and not folder.is_dir():
                raise WorkspaceError(f"{str(folder)!r} is a file; name another run folder with --folder")
            (folder / "steps").mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / ".lock")
            self._take_lock()
        for partial in (folder / "steps").glob("*.partial"):
            shutil.rmtree(partial)

    def _take_lock(self) -> None:
        holder = self.folder / ".lock-holder"
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            who = holder.read_text().strip() if holder.exists() else "another process"
            raise WorkspaceError(
                f"the run folder {str(self.folder)!r} is in use by {who}; wait until it ends, stop it, "
                "or give this run another folder with --folder"
            ) from None
        holder.write_text(f"process {os.getpid()}\n")

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self.folder / ".lock-holder").unlink(missing_ok=True)
        self._lock.release()

    def event(self, what: str, **details: Any) -> None:
        """Append a line to events.jsonl."""
        line = orjson.dumps({"time": round(time.time(), 3), "event": what} | details, default=str)
        with self._guard, (self.folder / "events.jsonl").open("ab") as file:
            file.write(line + b"\n")

    def keep_study(self, study: Mapping[str, Any]) -> list[str]:
        """Write study.yaml and return what differs from the study that was there, a line a key."""
        path = self.folder / "study.yaml"
        try:
            before = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else study
        except (yaml.YAMLError, UnicodeDecodeError):
            before = {}  # someone edited it; it is only a record
        text = yaml.safe_dump(dict(study), sort_keys=False, allow_unicode=True, width=110)
        write_atomically(path, text.encode())
        old, new = _flat(before), _flat(study)
        return [
            f"{key}: {old.get(key, 'not set')} -> {new.get(key, 'not set')}"
            for key in old | new
            if old.get(key) != new.get(key)
        ]

    def fix_test_split(self, rows: Rows) -> str:
        """Remember the test split's content, and refuse another one once a student was scored.

        Returns:
            The digest of the rows' inputs, targets and choices, in order.

        Raises:
            WorkspaceError: this folder's earlier results were measured on another test split.
        """
        running = blake2b(digest_size=16)
        for row in rows:
            running.update(digest(row.input, repr(row.target), *row.choices).encode())
        content = running.hexdigest()
        path = self.folder / "test.json"
        if path.exists() and any(self.folder.glob("arms/*/seed-*/scores.json")):
            try:
                fixed = orjson.loads(path.read_bytes())
                was, count = fixed["digest"], fixed["rows"]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                raise WorkspaceError(
                    f"{path} does not say which test split was used; give this run another folder"
                ) from None
            if was != content:
                raise WorkspaceError(
                    f"the test split has changed: {str(self.folder)!r} was made with {count} test rows "
                    f"(digest {was[:8]}), the study now has {len(rows)} (digest {content[:8]}), so scores "
                    "could not be compared; put the old split back, or give the study another name or --folder"
                )
        else:
            write_atomically(path, orjson.dumps({"digest": content, "rows": len(rows)}))
        return content

    def scratch(self, key: str) -> Path:
        """Where the step with this key may lay what it does not keep; made by nobody yet.

        Whoever makes the step takes it away; what a killed run left goes when the folder is opened the next time.
        """
        return self.folder / "steps" / f"{key}.scratch.partial"

    def step(
        self,
        key: str,
        name: str,
        make: Callable[[], Iterable[Row]],
        *,
        incoming: Rows | None = None,
        about: Callable[[], Mapping[str, Any]] = dict,
        passing: frozenset[str] = frozenset(),
    ) -> Rows:
        """The rows of the step with this key: read where it is done, made where it is not.

        Threads that ask for the same key at the same time get the one result.

        Args:
            key: hash of everything that the rows depend on.
            about: called when the rows are written; what it returns stands in the manifest.
            passing: reasons of dropped rows that may pass; a step that has some is made anew by a later run.
        """
        with self._guard:
            if mine := key not in self._made:
                self._made[key] = Future()
        future = self._made[key]
        if mine:
            try:
                future.set_result(self._step(key, name, make, incoming, about, passing))
            except BaseException as error:
                future.set_exception(error)
                raise
        return future.result()

    def _step(
        self,
        key: str,
        name: str,
        make: Callable[[], Iterable[Row]],
        incoming: Rows | None,
        about: Callable[[], Mapping[str, Any]],
        passing: frozenset[str],
    ) -> Rows:
        folder = self.folder / "steps" / key
        if (folder / MANIFEST).exists() and not Rows(folder).is_unfinished:
            return Rows(folder)
        started = time.monotonic()
        self.event("step started", step=name, key=key)
        with disk_errors(folder):
            rows = write_rows(folder, name, incoming, make(), about, passing)
        self.event("step done", step=name, key=key, rows=len(rows), seconds=round(time.monotonic() - started, 3))
        return rows


def _flat(values: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(values, Mapping) and values:
        return {k: v for key, inner in values.items() for k, v in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()}
    return {prefix: yaml.safe_dump(values, default_flow_style=True, width=10_000).strip().removesuffix("\n...").strip()}
