"""What a source is: a file or a hub dataset, and which of its rows come out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import Field, field_validator, model_validator

from understudy.errors import DataError
from understudy.records import digest
from understudy.settings import Settings
from understudy.sources.corpus_files import corpus_name
from understudy.task import Fields, Task

Format = Literal["jsonl", "csv", "tsv", "parquet", "text"]

SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
}

OF_THE_HUB = ("config", "split", "revision")
OF_CSV = ("delimiter", "quoted")
FOREIGN = {  # what does not go with a way to name rows
    "path": OF_THE_HUB,
    "hub": ("format", *OF_CSV),
    "corpus": (*OF_THE_HUB, *OF_CSV, "sample", "per_label"),
}


class Record(NamedTuple):
    """One row as it was read."""

    row: int
    """Counted from 0 in the file: lines for JSONL and text (blank ones count), rows elsewhere."""
    line: int | None
    """The line it begins on, from 1; None where there are no lines."""
    fields: dict[str, Any]


class Source(Settings):
    """Where rows come from. A plain string is a path.

    Which rows come out is decided in this order: ``skip`` leaves out the first rows; of the others ``sample`` or
    ``per_label`` draws some, which stay in file order; ``limit`` ends the stream. A draw does not depend on ``limit``,
    and a smaller draw with the same seed is part of a larger one.
    """

    path: str | None = Field(default=None, min_length=1)
    """The file; a name that ends in .gz is unpacked as it is read."""
    hub: str | None = Field(default=None, min_length=1)
    """Instead of a path: the hub's name of a dataset, or a local folder that the datasets package can load."""
    corpus: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Instead of a path, for kind: pretraining: files, and folders of which every file is read, in the order of names.
    A plain string is one. What cannot be read is dropped with a reason."""
    config: str | None = None
    """Which configuration of the hub dataset."""
    split: str | None = Field(default=None, pattern=r"^\w+(\.\w+)*$")
    """Which split of the hub dataset; left out: train."""
    revision: str | None = None
    """Which commit, tag or branch of the hub dataset."""
    format: Format | None = None
    """What the file is, or all files of a corpus; left out: the suffix decides."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """What stands between the fields of a CSV file; left out: a comma, in TSV a tab."""
    quoted: bool = True
    """Whether double quotes enclose fields of CSV and TSV; false where they are part of the text."""
    name: str | None = Field(default=None, min_length=1)
    """The dataset's name in ids and origins; left out: folder/stem of the file, or hub name and split. Of a corpus it
    stands before the names of the files."""
    licence: str | None = None
    """The licence that every row carries with it."""
    fields: Fields | None = None
    """Where an example's parts stand in these rows; what is left out is as the task's fields say."""
    skip: int = Field(default=0, ge=0)
    """Leave out that many rows at the beginning."""
    sample: int | None = Field(default=None, ge=1)
    """Draw at most that many rows."""
    per_label: int | None = Field(default=None, ge=1)
    """Draw at most that many rows of each label; rows without an answer are left out."""
    limit: int | None = Field(default=None, ge=1)
    """End after that many rows."""
    seed: int = 0
    """The seed of sample and per_label."""

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, values: Any) -> Any:
        if isinstance(values, (str, os.PathLike)):
            return {"path": os.fspath(values)}
        if isinstance(values, dict) and isinstance(values.get("path"), os.PathLike):
            return values | {"path": os.fspath(values["path"])}
        return values

    @field_validator("corpus", mode="before")
    @classmethod
    def _one_place(cls, corpus: Any) -> Any:
        if isinstance(corpus, (str, os.PathLike)):
            return (os.fspath(corpus),)
        return tuple(map(os.fspath, corpus)) if isinstance(corpus, (list, tuple)) else corpus

    @model_validator(mode="after")
    def _consistent(self) -> Source:
        given = [way for way in FOREIGN if getattr(self, way) is not None]
        if len(given) != 1:
            raise ValueError(
                "give one of path (a file), hub (a dataset's name or folder) and corpus (files and folders of raw text)"
            )
        for field in FOREIGN[given[0]]:
            if getattr(self, field) not in (None, True):
                raise ValueError(f"{field} does not go with {given[0]}; take it out")
        if self.sample and self.per_label:
            raise ValueError("sample and per_label are two ways to draw rows; give one of them")
        if (self.delimiter or not self.quoted) and self.format not in (None, "csv", "tsv"):
            raise ValueError(f"delimiter and quoted are for CSV and TSV, the format is {self.format!r}")
        return self

    @property
    def place(self) -> str:
        """The source as messages name it."""
        if self.corpus is not None:
            return ", ".join(self.corpus)
        return self.path if self.path is not None else f"hub {self.hub!r}"

    @property
    def hub_split(self) -> str:
        """The split to read of a hub dataset."""
        return self.split or "train"

    @property
    def dataset(self) -> str:
        """The name in ids and origins: never a path."""
        if self.name:
            return self.name
        if self.corpus is not None:
            return corpus_name(self.corpus)
        if self.path is not None:
            full = Path(os.path.abspath(os.path.expanduser(self.path)))
            stem = full.name.removesuffix(".gz")
            return f"{full.parent.name}/{Path(stem).stem}"
        folder = local_folder(self)
        hub = folder.resolve().name if folder else self.hub
        return "/".join(part for part in (hub, self.config, self.hub_split) if part)

    def file_format(self) -> Format:
        """The format of the file.

        Raises:
            DataError: the suffix is none of the known ones and ``format`` is left out.
        """
        assert self.path is not None
        if self.format:
            return self.format
        suffix = Path(self.path.removesuffix(".gz")).suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(
                f"{self.path}: the suffix {suffix!r} says nothing about the format. Known: {', '.join(SUFFIXES)}, "
                "each also with .gz; rename the file or give `format:`"
            )
        return SUFFIXES[suffix]


def local_folder(source: Source) -> Path | None:
    """The folder that ``hub`` names, if it names one."""
    if source.hub is None:
        return None
    folder = Path(source.hub).expanduser()
    return folder if folder.is_dir() else None


def read_as(source: Source, task: Task, split: str = "train") -> Task:
    """The task with the fields of the source's rows; without an answer where they are read as unlabelled."""
    own = task.read_by(source.fields)
    return own.without_answers() if split == "unlabelled" else own


def fingerprint(record: Record) -> str:
    """What a row's id says about its fields.

    Raises:
        DataError: they cannot be written.
    """
    try:
        return digest(orjson.dumps(record.fields, option=orjson.OPT_SORT_KEYS), size=3)
    except orjson.JSONEncodeError as error:
        raise DataError(f"the row cannot be written again ({error}); make it flatter") from None


def selection(source: Source) -> str:
    """What decides, beside the content, which examples come out and what they hold: as canonical JSON, no path."""
    draws = bool(source.sample or source.per_label)
    chosen = {
        "name": source.dataset,
        "licence": source.licence,
        "skip": source.skip,
        "sample": source.sample,
        "per_label": source.per_label,
        "seed": source.seed if draws else None,
        "limit": source.limit,
        "format": source.file_format() if source.path else source.format,
        "delimiter": source.delimiter,
        "quoted": source.quoted,
        "config": source.config,
        "split": source.hub_split if source.hub else None,
    }
    return orjson.dumps(chosen, option=orjson.OPT_SORT_KEYS).decode()
