"""Replies from a file, matched by the example's fields: a real teacher's answers without the teacher."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from understudy.errors import DataError
from understudy.records import Example, digest
from understudy.settings import did_you_mean
from understudy.teachers.request import Refused, Reply, Request
from understudy.teachers.settings import TeacherSettings
from understudy.templates import compile_template, is_template, variables_of

Key = tuple[str, ...]


class Recorded:
    """Answers from a JSONL file. All replies are held in memory: such files are small beside what they saved.

    ``match`` says which column of the file equals which field or template of the example. Names are looked up among
    the columns of the example's source row first, then ``id``, ``input``, ``target``, ``rationale`` and the notes.
    Rows of the file with one key are successive samples. The answers were given to prompts that were not ours, so
    ``max_tokens`` and ``temperature`` change nothing; ``stop`` cuts as a server would.
    """

    costs = False
    model = ""

    def __init__(self, settings: TeacherSettings) -> None:
        assert settings.path is not None and settings.reply is not None  # TeacherSettings sees to it
        self._path = Path(settings.path).expanduser()
        self._match = settings.match
        self._reply = settings.reply
        self._name = settings.name or settings.model or self._path.name
        self._replies: dict[Key, list[str | None]] = {}
        content = _sha256(self._path)
        rules = orjson.dumps([self._match, self._reply], option=orjson.OPT_SORT_KEYS)
        self.identity = f"recorded:{digest(content, rules)}"
        self.endpoint = self.identity

    def start(self) -> None:
        """Read the file.

        Raises:
            DataError: broken JSON, a missing column or an empty file, with the line.
        """
        for line, row in _rows(self._path):
            where = f"{self._path}:{line}"
            key = tuple(_text(_column(row, column, where)) for column in self._match)
            self._replies.setdefault(key, []).append(_reply_of(row, self._reply, where))
        if not self._replies:
            raise DataError(f"{self._path}: the file of recorded replies is empty; check teacher.path")

    async def complete(self, request: Request, example: Example) -> Reply:
        """The recorded reply to this example.

        Raises:
            Refused: ``no_recorded_reply``.
            DataError: the example has no such field.
        """
        key = tuple(_of_example(example, where) for where in self._match.values())
        replies = self._replies.get(key, [])
        if request.sample >= len(replies) or (text := replies[request.sample]) is None:
            asked = ", ".join(f"{column}={value[:60]!r}" for column, value in zip(self._match, key, strict=True))
            raise Refused("no_recorded_reply", f"{self._path.name} has no reply {request.sample} to {asked}")
        return Reply(_cut(text, request.sampling.get("stop") or ()), usd=0.0, model=self._name, recorded=True)

    async def aclose(self) -> None:
        """Nothing is open."""


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"teacher.path: {str(path)!r} cannot be read: {error.strerror}") from None


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = orjson.loads(line)
                if not isinstance(row, dict):
                    raise DataError(f"{path}:{number}: a line must hold one JSON object, not {line[:60]!r}")
                yield number, row
    except orjson.JSONDecodeError as error:
        raise DataError(f"{path}:{number}: this line is no JSON ({error}); mend or delete it") from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}:{number}: the file cannot be read further: {error}") from None


def _reply_of(row: Mapping[str, Any], reply: str, where: str) -> str | None:
    if is_template(reply):
        for name in variables_of(reply):
            _column(row, name, where)
        return compile_template(reply).render(row)
    value = _column(row, reply, where)
    return None if value is None else _text(value)


def _column(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise DataError(f"{where}: there is no column {column!r}. {did_you_mean(column, list(row))}")
    return row[column]


def _of_example(example: Example, where: str) -> str:
    own = {"id": example.id, "input": example.input, "target": example.target, "rationale": example.rationale}
    names = {**own, **example.notes, **example.fields}
    for name in variables_of(where) if is_template(where) else (where,):
        if name not in names:
            raise DataError(f"teacher.match: example {example.id!r} has no {name!r}. {did_you_mean(name, list(names))}")
    return compile_template(where).render(names) if is_template(where) else _text(names[where])


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # one file's 1 is another's 1.0
    if isinstance(value, (dict, list, tuple)):
        return orjson.dumps(value).decode()
    return "" if value is None else str(value)


def _cut(text: str, stops: tuple[str, ...]) -> str:
    ends = [end for stop in stops if (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
