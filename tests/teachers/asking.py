"""Rows, a prompt and a reader for the stories about teachers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from understudy.records import Dropped, Example
from understudy.teachers import Teacher, TeacherSettings, ask

Live: TypeAlias = Callable[..., TeacherSettings]


def examples(count: int, start: int = 0) -> Iterator[Example]:
    for i in range(start, start + count):
        yield Example(id=f"e{i}", input=f"row {i};", fields={"text": f"row {i};"})


def prompt(example: Example) -> list[dict[str, str]]:
    return [{"role": "system", "content": "Say it loudly."}, {"role": "user", "content": example.input}]


def parse(example: Example, reply: str) -> Example:
    return example.replace(target=reply)


def asked(teacher: Teacher, rows: Any, n: int = 1) -> tuple[list[Example], list[Dropped]]:
    """What came out of one ask: kept and dropped rows."""
    out = list(ask(teacher, rows, prompt, parse, n, step="loud"))
    return [r for r in out if isinstance(r, Example)], [r for r in out if isinstance(r, Dropped)]
