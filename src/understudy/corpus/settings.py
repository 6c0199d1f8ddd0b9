"""What a corpus is: files and folders of plain text, and what a sentence of them must be."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from understudy.settings import Settings

TextFormat = Literal["jsonl", "parquet", "text"]


class Corpus(Settings):
    """Where raw text lies. A plain string is one path."""

    paths: tuple[str, ...] = Field(min_length=1)
    """Files, and folders of which every file is read, in the order of their names; .gz is unpacked as it is read."""
    format: TextFormat | None = None
    """What the files are; left out: each one's suffix decides."""
    column: str = "text"
    """Where the text of a JSONL or Parquet row stands."""
    wrapped: bool = False
    """Whether lines are cut at a width, so that only an empty line ends a paragraph; else the end of a line ends a
    sentence too, and each line of a text file is a document."""
    language: str = Field(default="en", pattern=r"^[a-z]{2,3}(-[a-z]+)*$")
    """The code of the texts' language, as Wikipedia's; one that sentencex has no rules for is split as English."""
    min_words: int = Field(default=2, ge=0)
    """Sentences of fewer words are dropped; 1 for a language that is written without spaces."""
    max_characters: int = Field(default=2_000, ge=1)
    """Sentences that are longer are dropped."""

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, values: Any) -> Any:
        return {"paths": values} if isinstance(values, (str, os.PathLike)) else values

    @field_validator("paths", mode="before")
    @classmethod
    def _one_path(cls, paths: Any) -> Any:
        if isinstance(paths, (str, os.PathLike)):
            return (os.fspath(paths),)
        return tuple(map(os.fspath, paths)) if isinstance(paths, (list, tuple)) else paths
