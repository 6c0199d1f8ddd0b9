"""JSONL files that people hand on: read line by line, written whole or not at all, the same bytes everywhere."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import orjson

from understudy.errors import DataError
from understudy.sources.files import opened
from understudy.workspace.files import disk_errors


class Lines:
    """The lines of a file, each a JSON object with its number; read anew at every iteration.

    ``is_cut`` says, after one, whether the file ends within a line, as a copy does that was broken off.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = str(path)
        self.is_cut = False

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """
        Raises:
            DataError: the file cannot be read, or a line of it is no JSON object.
        """
        self.is_cut = False
        with opened(self.path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.isspace():
                    continue
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    if not line.endswith(b"\n"):
                        self.is_cut = True
                        return
                    raise DataError(f"{self.path}:{number}: no JSON ({error}); get the file again") from None
                if not isinstance(value, dict):
                    raise DataError(f"{self.path}:{number}: each line must be a JSON object; get the file again")
                yield number, value


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that appears when the block ends well. Packed where its name ends in ``.gz``, without time and name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as raw:
                if path.suffix == ".gz":
                    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                        yield cast(IO[bytes], packed)
                else:
                    yield raw
                raw.flush()
                os.fsync(raw.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
