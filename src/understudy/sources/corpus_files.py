"""The files of a corpus, under names that are the same on every machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from understudy.errors import DataError
from understudy.sources.files import file_hash, local_file


class File(NamedTuple):
    """One file of a corpus."""

    name: str
    """From the folder that was named on, as ``text_books/train.jsonl.gz``; of a single file with its folder's name."""
    path: Path
    problem: str = ""
    """Why it cannot be read, if that is known already."""

    @property
    def dataset(self) -> str:
        """The name without suffixes, as ``text_books/train``."""
        return _stem(self.name)


def corpus_files(paths: Sequence[str]) -> Iterator[File]:
    """Every file, path by path and in a folder in the order of names; one folder's names are in memory at a time.

    Raises:
        DataError: a path is not there, or two of them hold files of the same name.
    """
    roots = [(_root(given), _absolute(given)) for given in paths]
    for given, (_, path) in zip(paths, roots, strict=True):
        if not path.is_dir():
            local_file(given)
    for (one, first), (other, second) in combinations(roots, 2):
        if f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/"):
            raise DataError(
                f"{str(first)!r} and {str(second)!r} would both be {min(one, other)!r} in the ids of rows; "
                "name each file once, and give folders different names"
            )
    for name, path in roots:
        yield from _inside(name, path) if path.is_dir() else [File(name, path)]


def corpus_hash(paths: Sequence[str]) -> str:
    """What the corpus holds: a digest over names and bytes of its files, and over which of them cannot be read.

    Raises:
        DataError: as ``corpus_files``.
    """
    whole = hashlib.sha256()
    for file in corpus_files(paths):
        try:
            content = file_hash(str(file.path)) if not file.problem else "unreadable"
        except DataError:
            content = "unreadable"
        whole.update(f"{file.name}\0{content}\n".encode())
    return whole.hexdigest()


def corpus_name(paths: Sequence[str]) -> str:
    """The names of its folders, and of its files without suffixes, put together by plus signs."""
    return "+".join(_root(path) if _absolute(path).is_dir() else _stem(_root(path)) for path in paths)


def _absolute(given: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(given)))


def _root(given: str) -> str:
    path = _absolute(given)
    return _printable(path.name if path.is_dir() else f"{path.parent.name}/{path.name}")


def _stem(name: str) -> str:
    return str(PurePosixPath(name.removesuffix(".gz")).with_suffix(""))


def _inside(name: str, folder: Path) -> Iterator[File]:
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        yield File(name, folder, f"this folder cannot be read: {error.strerror or error}")
        return
    for entry in entries:
        path, inner = folder / entry, f"{name}/{_printable(entry)}"
        if not os.path.isdir(path):
            yield File(inner, path)
        elif path.is_symlink():  # it may lead back up
            yield File(inner, path, "a link to a folder is not followed; name that folder too")
        else:
            yield from _inside(inner, path)


def _printable(name: str) -> str:
    """A file's name need not be UTF-8, what is written must be."""
    return os.fsencode(name).decode(errors="backslashreplace")
