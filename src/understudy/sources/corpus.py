"""Files and folders of raw text as a stream of rows; what cannot be read is dropped with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from understudy.errors import DataError
from understudy.records import Dropped, Example, Origin, Row
from understudy.sources.corpus_files import File, corpus_files
from understudy.sources.documents import EXCERPT, LONGEST_DOCUMENT, Fault, documents
from understudy.sources.source import SUFFIXES, Format, Record, Source, fingerprint, read_as
from understudy.task import Task

SPLITS_OF_TEXT = ("train", "held_back", "unlabelled")


def load_corpus(source: Source, task: Task, split: str = "train") -> Iterator[Row]:
    """The texts of a corpus as examples without an answer, in the order of its files, and what is dropped.

    An id names file, line or row and a digest of its fields. A row of JSONL, CSV, TSV or Parquet is a text where the
    task's fields say. Of plain text a row is some 2,000 characters of running lines, ``{"text": ...}``. ``skip`` and
    ``limit`` count the rows that can be read.

    Reasons of a file: unknown_format, unreadable_file (what stood before the fault is kept), binary_file, empty_file;
    of a row: long_document, not_utf8, broken_json, broken_row, no_text, nul_character, empty_document.

    Args:
        split: the part of the study that the rows are read for: train, held_back or unlabelled.

    Raises:
        DataError: the task or the split cannot be read from a corpus; a path is not there, or two of them hold files
            of the same name; no row is left.
    """
    assert source.corpus is not None
    if problem := cannot_be_read(task, split):
        raise DataError(f"{source.place}: {problem}")
    read = _rows(source, read_as(source, task, split).without_answers(), split)
    reasons: Counter[str] = Counter()
    rows = 0
    for row in read:
        if isinstance(row, Dropped):
            reasons[row.reason] += 1
        if rows >= source.skip:
            yield row
        if isinstance(row, Example):
            rows += 1
            if rows - source.skip == source.limit:
                return
    if rows <= source.skip:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(reasons.items())) or "no file"
        left = f" left of {rows:,} after skip: {source.skip}" if rows else ""
        raise DataError(f"{source.place}: there is no row of text{left} (dropped: {why}); look at format and fields")


def cannot_be_read(task: Task, split: str) -> str:
    """Why a split of the task cannot be read from a corpus, or nothing."""
    if task.kind != "pretraining":
        return f"a corpus is raw text for kind: pretraining, this task is of kind {task.kind!r}; give rows as `path:`"
    if split not in SPLITS_OF_TEXT:
        return f"a corpus has no answers, which {split} needs; give {split} as `path:`"
    return ""


def _rows(source: Source, task: Task, split: str) -> Iterator[Row]:
    for file in corpus_files(source.corpus or ()):
        name, dataset = (f"{source.name}/{part}" if source.name else part for part in (file.name, file.dataset))
        format = source.format or SUFFIXES.get(PurePosixPath(file.name.removesuffix(".gz")).suffix.lower())
        is_empty = True
        for one in _faulty(file, format, task):
            is_empty = False
            if isinstance(one, Fault) and one.row is None:
                yield Dropped(Example(id=name, input=""), split, one.reason, one.detail)
                continue
            origin = Origin(dataset, split, one.row or 0, source.licence)
            id = f"{name}:{one.row}"
            if isinstance(one, Fault):
                yield Dropped(Example(id=id, input=one.begins, origin=origin), split, one.reason, one.detail)
            else:
                yield _row(one, id, origin, task)
        if is_empty:
            yield Dropped(Example(id=name, input=""), split, "empty_file")


def _faulty(file: File, format: Format | None, task: Task) -> Iterator[Record | Fault]:
    """The records of a file, and at most one fault of the file itself."""
    if file.problem:
        yield Fault(None, "unreadable_file", file.problem)
    elif format is None:
        known = ", ".join(SUFFIXES)
        yield Fault(None, "unknown_format", f"read are {known}, each also with .gz; or give `format:`")
    else:
        try:
            yield from documents(file, format, task.fields.columns())
        except DataError as error:
            yield Fault(None, "unreadable_file", str(error).replace(str(file.path), file.name))


def _row(record: Record, id: str, origin: Origin, task: Task) -> Row:
    try:
        example = task.example(record.fields, id=f"{id}-{fingerprint(record)}", origin=origin)
        problem = _fault(example.input)
    except DataError as error:
        example, problem = Example(id=id, input=str(record.fields)), ("no_text", str(error))
    if not problem:
        return example
    cut = Example(id=example.id, input=example.input[:EXCERPT], origin=origin)
    return Dropped(cut, origin.split, *problem)


def _fault(text: str) -> tuple[str, str] | None:
    if not text.strip():
        return "empty_document", ""
    if len(text) > LONGEST_DOCUMENT:
        return "long_document", f"over {LONGEST_DOCUMENT >> 20} Mi characters; cut it into several documents"
    if "\0" in text:
        return "nul_character", f"at position {text.index(chr(0)) + 1}"
    return None
