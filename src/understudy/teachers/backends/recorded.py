"""Replies from a file, matched by the example's fields: a real teacher's answers without the teacher."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from understudy.errors import DataError
from understudy.records import Example, digest
from understudy.settings import did_you_mean
from understudy.sources import Source, content_hash, read
from understudy.teachers.request import Refused, Reply, Request
from understudy.teachers.settings import RecordedFile, TeacherSettings
from understudy.templates import compile_template, is_template, variables_of

Key = tuple[str, ...]


class Recorded:
    """Answers from files, read as sources are. All replies are in memory: such files are small beside what they saved.

    A file answers the examples that have the fields its ``match`` names; they are looked up among the columns of the
    example's source row first, then ``id``, ``input``, ``target``, ``rationale`` and the notes. The answers were given
    to prompts that were not ours, so ``max_tokens`` and ``temperature`` change nothing; ``stop`` cuts as a server does.
    """

    costs = False
    model = ""

    def __init__(self, settings: TeacherSettings) -> None:
        self._files = [_File(one) for one in settings.replies]
        self._name = settings.name or settings.model or self._files[0].path.name
        self.identity = f"recorded:{digest(*(file.identity for file in self._files))}"
        self.endpoint = self.identity

    def start(self) -> None:
        """Read the files.

        Raises:
            DataError: broken JSON, a missing column or an empty file, with the line.
        """
        for file in self._files:
            file.read()

    def matched(self, example: Example) -> str:
        """A digest of the values that this example is matched by: rows with equal prompts may have other replies.

        Raises:
            DataError: the example has the fields of no file, or a template fails on it.
        """
        return digest(json.dumps([[number, *key] for number, key in self._keys(example)]))

    async def complete(self, request: Request, example: Example) -> Reply:
        """The recorded reply to this example.

        Raises:
            Refused: ``no_recorded_reply``.
            DataError: as ``matched``.
        """
        keys = self._keys(example)
        for number, key in keys:
            text = self._files[number].find(key, request.sample)
            if text is not None:
                return Reply(_cut(text, request.sampling.get("stop") or ()), usd=0.0, model=self._name, recorded=True)
        name = self._files[keys[0][0]].path.name
        raise Refused("no_recorded_reply", f"{name} has no reply {request.sample} to {example.id!r}")

    async def aclose(self) -> None:
        """Nothing is open."""

    def _keys(self, example: Example) -> list[tuple[int, Key]]:
        """The number of each file whose fields the example has, and the key to look for in it."""
        names, where = _names(example), f"example {example.id!r}"
        fitting = [(number, file) for number, file in enumerate(self._files) if file.needs <= names.keys()]
        keys = [(number, file.key(names, where)) for number, file in fitting]
        if not keys:
            needed = " or ".join(sorted({", ".join(sorted(file.needs)) for file in self._files}))
            raise DataError(f"teacher.replies: no file matches example {example.id!r}, which has no field {needed}; "
                            f"it has {', '.join(sorted(names))}")  # fmt: skip
        return keys


class _File:
    """One file of replies, found by the values of an example's fields."""

    def __init__(self, settings: RecordedFile) -> None:
        self.source = Source(path=settings.path)
        self.path = Path(settings.path)
        self._match = settings.match
        self._reply = settings.reply
        self.needs = frozenset(
            name
            for where in settings.match.values()
            for name in (variables_of(where) if is_template(where) else [where])
        )
        rules = orjson.dumps([settings.match, settings.reply], option=orjson.OPT_SORT_KEYS)
        self.identity = digest(content_hash(self.source), rules)
        self._replies: dict[Key, list[str | None]] = {}

    def read(self) -> None:
        for number, row in read(self.source):
            where = f"{self.path}:{number + 1}"
            key = tuple(_text(_column(row, column, where)) for column in self._match)
            self._replies.setdefault(key, []).append(_reply_of(row, self._reply, where))

    def key(self, names: Mapping[str, Any], where: str) -> Key:
        return tuple(
            _render(field, names, where) if is_template(field) else _text(names[field])
            for field in self._match.values()
        )

    def find(self, key: Key, sample: int) -> str | None:
        replies = self._replies.get(key, [])
        return replies[sample] if sample < len(replies) else None


def _names(example: Example) -> dict[str, Any]:
    own = {"id": example.id, "input": example.input, "target": example.target, "rationale": example.rationale}
    return {**own, **example.notes, **example.fields}


def _reply_of(row: Mapping[str, Any], reply: str, where: str) -> str | None:
    if is_template(reply):
        for name in variables_of(reply):
            _column(row, name, where)
        return _render(reply, row, where)
    value = _column(row, reply, where)
    return None if value is None else _text(value)


def _render(template: str, values: Mapping[str, Any], where: str) -> str:
    try:
        return compile_template(template).render(values)
    except Exception as error:  # whatever an expression in a template can raise
        raise DataError(f"{where}: the template {template!r} of teacher.replies fails here: {error}") from None


def _column(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise DataError(f"{where}: there is no column {column!r}. {did_you_mean(column, list(row))}")
    return row[column]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # one file's 1 is another's 1.0
    if isinstance(value, (dict, list, tuple)):
        return orjson.dumps(value).decode()
    return "" if value is None else str(value)


def _cut(text: str, stops: tuple[str, ...]) -> str:
    ends = [end for stop in stops if (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
