"""The files of a corpus, under names that are the same on every machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from understudy.corpus.settings import Corpus
from understudy.errors import DataError
from understudy.records import digest
from understudy.sources.files import file_hash, folder_hash, local_file


class File(NamedTuple):
    """One file of a corpus."""

    name: str
    """From the folder that was named on, as ``text_books/train.jsonl.gz``; of a single file with its folder's name."""
    path: Path
    problem: str = ""
    """Why it cannot be read, if that is known already."""


def files(corpus: Corpus) -> Iterator[File]:
    """Every file, in the order of names; one folder's names are in memory at a time.

    Raises:
        DataError: a path is not there, or two of them hold files of the same name.
    """
    for name, path in _roots(corpus):
        if path.is_dir():
            yield from _inside(name, path)
        else:
            yield File(name, path)


def content_hash(corpus: Corpus) -> str:
    """What the corpus holds: a digest over names and bytes of its files.

    Raises:
        DataError: as ``files``; a file cannot be read.
    """
    hashes = ((name, folder_hash(path) if path.is_dir() else file_hash(str(path))) for name, path in _roots(corpus))
    return digest(*(part for pair in hashes for part in pair))


def _roots(corpus: Corpus) -> list[tuple[str, Path]]:
    roots = []
    for given in corpus.paths:
        path = Path(os.path.abspath(os.path.expanduser(given)))
        if not path.is_dir():
            local_file(given)
        roots.append((_printable(path.name if path.is_dir() else f"{path.parent.name}/{path.name}"), path))
    for (one, first), (other, second) in combinations(roots, 2):
        if f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/"):
            raise DataError(
                f"{str(first)!r} and {str(second)!r} would both be {min(one, other)!r} in the places of sentences; "
                "name each file once, and give folders different names"
            )
    return roots


def _inside(name: str, folder: Path) -> Iterator[File]:
    try:
        entries = sorted(os.listdir(folder))
    except OSError as error:
        yield File(name, folder, f"{name}: this folder cannot be read: {error.strerror or error}")
        return
    for entry in entries:
        path, inner = folder / entry, f"{name}/{_printable(entry)}"
        if not os.path.isdir(path):
            yield File(inner, path)
        elif path.is_symlink():  # it may lead back up
            yield File(inner, path, f"{inner}: a link to a folder is not followed; name that folder too")
        else:
            yield from _inside(inner, path)


def _printable(name: str) -> str:
    """A file's name need not be UTF-8, what is written must be."""
    return os.fsencode(name).decode(errors="backslashreplace")
