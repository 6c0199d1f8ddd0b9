"""Rows and examples of a source, streamed: memory does not grow with the file."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice
from os import PathLike, fspath
from random import Random
from typing import Any

from understudy.errors import DataError
from understudy.records import Example, Origin, Target
from understudy.sources import lines, tables
from understudy.sources.corpus import load_corpus
from understudy.sources.corpus_files import corpus_hash
from understudy.sources.files import file_hash, folder_hash
from understudy.sources.source import Record, Source, fingerprint, local_folder, read_as
from understudy.task import CLOSED_KINDS, Task


def read(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every row of the file with its number from 0, whatever ``skip``, ``sample`` and ``limit`` say.

    Raises:
        DataError: the file is not there or not what it should be; raised as the rows are drawn.
        MissingPackage: a hub source without the datasets package.
    """
    for record in _records(source):
        yield record.row, record.fields


def load(source: Source | str | PathLike[str], task: Task, split: str = "train") -> Iterator[Example]:
    """The chosen rows as examples with stable ids, in file order.

    An id names dataset, row and a digest of the row's fields, so it does not change with ``skip``, ``sample`` or
    ``limit``.

    Args:
        source: a file's path, or a ``Source`` that also says which of its rows.
        split: the part of the study that the rows are read for: train, unlabelled or test.

    Raises:
        DataError: as ``read``; the source is a corpus, which ``load_corpus`` reads; a row that does not fit the task; a
            test row without an answer where the task names ``fields.target``; no row is left to read.
        MissingPackage: as ``read``.
    """
    source = source if isinstance(source, Source) else Source(path=fspath(source))
    task = read_as(source, task, split)
    empty = True
    for example in _examples(source, task, split, islice(_chosen(source, task), source.limit)):
        yield example
        empty = False
    if empty:
        wanted = "rows with an answer for per_label" if source.per_label else "more rows"
        raise DataError(
            f"{source.place}: no row is left after skip: {source.skip}; lower it or give a file with {wanted}"
        )


def labels_in(source: Source, task: Task) -> list[str]:
    """The distinct answers in the whole file, sorted; each of several in a row counts.

    Raises:
        DataError: as ``read``; a row without the target column; no row has an answer.
    """
    found: set[str] = set()
    task = read_as(source, task)
    for record in _records(source):
        target = _target(source, task, record)
        found.update(target if isinstance(target, tuple) else () if target is None else (target,))
    if not found:
        raise DataError(
            f"{source.place}: no row has an answer in {task.fields.target!r}; set fields.target to its column"
        )
    return sorted(found)


def validate_source(source: Source, task: Task, split: str = "train") -> None:
    """A quick look before anything is spent: the file opens and its first row fits the task.

    Raises:
        DataError, MissingPackage: as ``load``.
    """
    if source.corpus is not None:
        first = source.model_copy(update={"skip": 0, "limit": 1})
        deque(load_corpus(first, task, split), maxlen=0)
        return
    task = read_as(source, task, split)
    _drawable(source, task)
    next(_examples(source, task, split, islice(_records(source), 1)))


def content_hash(source: Source) -> str:
    """What the source holds, never where: sha256 of a file's bytes, of a folder's or corpus's files, or the hub's
    fingerprint.

    Raises:
        DataError, MissingPackage: as ``read``.
    """
    if source.corpus is not None:
        return corpus_hash(source.corpus)
    if source.path is not None:
        return file_hash(source.path)
    folder = local_folder(source)
    if folder is not None:
        return folder_hash(folder)
    return tables.open_dataset(source)._fingerprint  # of name, configuration, split and commit


def _records(source: Source) -> Iterator[Record]:
    empty = True
    for record in _reader(source):
        yield record
        empty = False
    if empty:
        raise DataError(f"{source.place}: it holds no rows; check that it was written to its end")


def _reader(source: Source) -> Iterator[Record]:
    if source.corpus is not None:
        raise DataError(f"{source.place}: a corpus is raw text to pretrain on; give a file of rows as `path:`")
    if source.path is None:
        return tables.hub(source)
    match source.file_format():
        case "jsonl":
            return lines.jsonl(source.path)
        case "text":
            return lines.text(source.path)
        case "parquet":
            return tables.parquet(source.path)
        case "csv":
            return lines.separated(source.path, source.delimiter or ",", source.quoted)
        case "tsv":
            return lines.separated(source.path, source.delimiter or "\t", source.quoted)


def _chosen(source: Source, task: Task) -> Iterator[Record]:
    """The rows after ``skip`` and the draw, in file order."""
    _drawable(source, task)
    records = islice(_records(source), source.skip, None)
    if not (source.sample or source.per_label):
        return records
    drawn = _drawn(source, task)
    return islice((record for record in records if record.row in drawn), len(drawn))


def _drawn(source: Source, task: Task) -> set[int]:
    """The numbers of the rows that ``sample`` or ``per_label`` draws, in one pass that keeps no rows.

    Every row gets a random priority and the highest of each label stay, so a smaller draw is part of a larger one.
    """
    priority = Random(source.seed).random
    size = source.sample or source.per_label or 0
    kept: dict[Target, list[tuple[float, int]]] = defaultdict(list)
    for record in islice(_records(source), source.skip, None):
        rank = priority()
        label = None if source.sample else _target(source, task, record)
        if label is None and not source.sample:
            continue
        heappush(kept[label], (rank, record.row))
        if len(kept[label]) > size:
            heappop(kept[label])
    return {row for heap in kept.values() for _, row in heap}


def _drawable(source: Source, task: Task) -> None:
    if source.per_label and (task.kind not in CLOSED_KINDS or not task.fields.target):
        raise DataError(
            f"{source.place}: per_label: {source.per_label} needs a task with labels and fields.target, this one is of "
            f"kind {task.kind!r} with target {task.fields.target!r}; give `sample:` instead"
        )


def _target(source: Source, task: Task, record: Record) -> Target:
    """The row's answer by the labels' names."""
    try:
        target = task.target_of(record.fields)
        return task.label(target) if target is not None and task.labels is not None else target
    except DataError as error:
        raise DataError(f"{_place(source, record)}: {error}") from None


def _examples(source: Source, task: Task, split: str, records: Iterator[Record]) -> Iterator[Example]:
    dataset = source.dataset
    example_in = task.pair if split == "test" and task.pairs else task.example
    for record in records:
        origin = Origin(dataset, split, record.row, source.licence)
        try:
            example = example_in(record.fields, id=f"{dataset}:{record.row}-{fingerprint(record)}", origin=origin)
            if split == "test" and task.fields.target and example.target is None:
                raise DataError("field 'target': a test row needs an answer")
            if split == "test" and task.kind == "choice" and example.target not in (None, *example.choices):
                raise DataError(f"field 'target': {example.target!r} is none of {list(example.choices)!r}")
        except DataError as error:
            raise DataError(f"{_place(source, record)}: {error}") from None
        yield example


def _place(source: Source, record: Record) -> str:
    return f"{source.place}: row {record.row}" if record.line is None else f"{source.place}:{record.line}"
