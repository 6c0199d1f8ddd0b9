"""Requests as a file, for any way of having them answered, and the answers as they come back.

Both are in the form of OpenAI's batches, https://platform.openai.com/docs/api-reference/batch: a line a request with
its ledger key as ``custom_id``. What else belongs to the key stands beside the body under ``request``.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from understudy.errors import DataError, SettingsError, TeacherError
from understudy.teachers.backends.chat import body_of, cut_at_stop
from understudy.teachers.backends.openai import OpenAI
from understudy.teachers.backends.redact import Secrets
from understudy.teachers.cassettes.cassette import Imported
from understudy.teachers.cassettes.jsonl import Lines, whole_file
from understudy.teachers.ledger import Entry, Ledger
from understudy.teachers.request import WRITTEN, Refused, Reply, Request, TryAgain
from understudy.teachers.settings import TeacherSettings

_URL = "/v1/chat/completions"
_SIGNED = re.compile(r"(.*\S), (\d{4}-\d\d-\d\d)")


class RequestFile:
    """Collects requests, from any thread; when the block ends well they stand in a file, each once, by their keys.

    Until then they are in a temporary file and not in memory.

    Raises:
        DataError: on adding, a prompt holds a secret.
    """

    def __init__(self, path: str | os.PathLike[str], secrets: Secrets | None = None) -> None:
        self.path = Path(path)
        self._secrets = secrets or Secrets([])
        self._shelf = _Shelf()

    def __enter__(self) -> RequestFile:
        return self

    def add(self, request: Request) -> None:
        """Put one more request on the file; one that is there already stays."""
        content = request.content()
        if self._secrets.found_in(content.decode()):
            raise DataError("a prompt holds a key or password that this machine knows; take it out of the rows")
        rest = {name: value for name, value in orjson.loads(content).items() if name not in ("messages", "model")}
        body = orjson.Fragment(body_of(request))
        line = {"custom_id": request.key, "method": "POST", "url": _URL, "body": body, "request": rest}
        self._shelf.put(request.key, orjson.dumps(line))

    def __len__(self) -> int:
        return len(self._shelf)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._shelf:
            if kind is None:
                with whole_file(self.path) as file:
                    file.writelines(line + b"\n" for line in self._shelf)


def import_replies(
    path: str | os.PathLike[str], requests: str | os.PathLike[str], ledger: Ledger, *, written_by: str | None = None
) -> Imported:
    """Take answers to a file of requests into a ledger; replies to the same requests that are there already stay.

    A line of answers is one of OpenAI's batch output, or ``{"custom_id": ..., "reply": "text"}``. The file is read
    twice: nothing of one that holds a wrong line is taken.

    Args:
        written_by: ``"NAME, YYYY-MM-DD"`` of the language model that wrote the answers outside any endpoint, and when;
            they then have no token counts and cost nothing. Without it the answers must name their model, which must
            be the one that was asked.

    Raises:
        DataError: a line is not what it should be, or answers no line of the requests.
        SettingsError: nobody says who wrote the answers.
    """
    with _Shelf() as shelf:
        for number, line in Lines(requests):
            request = _request(line, f"{os.fspath(requests)}:{number}")
            shelf.put(request.key, request.content())
        answers = _Answers(path, shelf, _signature(written_by) if written_by else None)
        for _ in answers:
            pass
        return Imported(
            path=Path(path),
            new=ledger.add(answers),
            replies=answers.replies,
            doubles=answers.doubles,
            failed=answers.failed,
            promised=len(shelf),
            is_cut=answers.lines.is_cut,
        )


class _Answers:
    """A file of answers as entries of a ledger; counts what the last iteration met."""

    def __init__(self, path: str | os.PathLike[str], asked: _Shelf, signed: tuple[str, float] | None) -> None:
        self.lines = Lines(path)
        self.replies = self.doubles = self.failed = 0
        self._asked, self._signed = asked, signed
        self._now = time.time()
        self._readers: dict[tuple[str, str], OpenAI] = {}

    def __iter__(self) -> Iterator[Entry]:
        self.replies = self.doubles = self.failed = 0
        seen = set[str]()
        for number, line in self.lines:
            where = f"{self.lines.path}:{number}"
            key = line.get("custom_id") or line.get("key")
            content = self._asked.get(key) if isinstance(key, str) else None
            if content is None:
                raise DataError(f"{where}: {key!r} is the custom_id of no line of the requests; name their file")
            if key in seen:
                self.doubles += 1
                continue
            request = Request(**orjson.loads(content))
            try:
                reply, created = self._reply(line, request, where)
            except (TryAgain, Refused):
                self.failed += 1
                continue
            seen.add(request.key)
            self.replies += 1
            yield Entry(request.key, request, reply, None, created)

    def _reply(self, line: dict[str, Any], request: Request, where: str) -> tuple[Reply, float]:
        writer, written = self._signed or ("", 0.0)
        if isinstance(text := line.get("reply"), str):
            if not writer:
                raise SettingsError(f'{where}: nobody says who wrote this; add --written-by "NAME, YYYY-MM-DD"')
            return Reply(text, usd=0.0, model=writer, raw=WRITTEN), written
        response = line.get("response") or {}
        body = response.get("body") if isinstance(response, dict) else None
        if not isinstance(body, dict):
            if line.get("error"):
                raise Refused("not_answered")
            raise DataError(f"{where}: there is neither a response with a body nor a reply")
        if response.get("status_code", 200) != 200:
            raise Refused("not_answered")
        if writer:
            body = {name: value for name, value in body.items() if name not in ("model", "usage")}
        elif not body.get("model"):
            raise SettingsError(f'{where}: the answer names no model; add --written-by "NAME, YYYY-MM-DD"')
        try:
            reply = cut_at_stop(self._reader(request).read(200, {}, orjson.dumps(body), 0.0), request)
        except TeacherError as error:
            raise DataError(f"{where}: {error}") from None
        if writer:
            return replace(reply, usd=0.0, model=writer, raw=WRITTEN), written
        created = body.get("created")
        return reply, float(created) if isinstance(created, int | float) else self._now

    def _reader(self, request: Request) -> OpenAI:
        """What reads the answers of the model that was asked."""
        who = (request.teacher, request.model)
        if who not in self._readers:
            self._readers[who] = OpenAI(TeacherSettings(model=request.model or request.teacher, name=request.teacher))
        return self._readers[who]


def _signature(written_by: str) -> tuple[str, float]:
    try:
        found = _SIGNED.fullmatch(written_by.strip())
        assert found is not None
        return found[0], datetime.fromisoformat(found[2]).replace(tzinfo=UTC).timestamp()
    except (AssertionError, ValueError):
        raise SettingsError(
            f"--written-by: {written_by!r} does not say who and when; write it as NAME, YYYY-MM-DD"
        ) from None


def _request(line: dict[str, Any], where: str) -> Request:
    try:
        request = Request(model=line["body"]["model"], messages=line["body"]["messages"], **line["request"])
        key, asked = request.key, line["custom_id"]
    except (KeyError, TypeError) as error:
        raise DataError(f"{where}: this is no line of understudy cassette export --requests ({error!r})") from None
    if key != asked:
        raise DataError(f"{where}: the custom_id {asked!r} does not belong to the request; export the file again")
    return request


class _Shelf:
    """Lines by key, in a temporary file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._file = sqlite3.connect("", check_same_thread=False, isolation_level=None)  # "": a file without a name
        self._file.execute("PRAGMA journal_mode=OFF")
        self._file.execute("CREATE TABLE lines (key TEXT PRIMARY KEY, line BLOB NOT NULL) WITHOUT ROWID")

    def put(self, key: str, line: bytes) -> None:
        with self._lock:
            self._file.execute("INSERT OR IGNORE INTO lines VALUES (?, ?)", (key, line))

    def get(self, key: str) -> bytes | None:
        with self._lock:
            found = self._file.execute("SELECT line FROM lines WHERE key = ?", (key,)).fetchone()
        return found[0] if found else None

    def __iter__(self) -> Iterator[bytes]:
        for (line,) in self._file.execute("SELECT line FROM lines ORDER BY key"):
            yield line

    def __len__(self) -> int:
        with self._lock:
            return self._file.execute("SELECT count(*) FROM lines").fetchone()[0]

    def __enter__(self) -> _Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
