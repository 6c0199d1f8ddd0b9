"""Opening a file: what can be wrong with it becomes one clear line; .gz is unpacked as it is read."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from understudy.errors import DataError


@contextmanager
def opened(path: str, *, unpack: bool = True) -> Iterator[io.BufferedReader]:
    """The file's bytes; what goes wrong inside the block while reading is a DataError.

    Raises:
        DataError: there is no such file, it is a folder, it cannot be read, it is not whole.
    """
    file = local_file(path)
    try:
        with file.open("rb") as raw:
            if unpack and path.endswith(".gz"):
                yield io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), buffer_size=1 << 18)
            else:
                yield raw
    except EOFError:
        raise DataError(f"{path}: the gzip file is cut off; copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: no valid gzip file ({error}); take .gz off its name if it is not packed, else fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def local_file(path: str) -> Path:
    """The existing regular file at ``path``.

    Raises:
        DataError: there is none; the message names what is there instead.
    """
    file = Path(path).expanduser()
    try:
        if file.is_file():
            return file
        if file.is_dir():
            inside = sorted(entry.name for entry in file.iterdir())[:5]
            raise DataError(
                f"{path}: this is a folder (it holds {', '.join(map(repr, inside)) or 'nothing'}); "
                "name one file in it, or give the folder as `hub:`"
            )
        if file.exists():
            raise DataError(f"{path}: not a regular file, and sources are read more than once; save it as a file")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    raise DataError(f"{path}: there is no such file. {_instead(file)}")


def _instead(file: Path) -> str:
    folder = Path(os.path.abspath(file)).parent
    if not folder.is_dir():
        return f"There is no folder {str(folder)!r} either; check the path"
    near = get_close_matches(file.name, sorted(os.listdir(folder)), n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Looked in {str(folder)!r}; check the path"


def file_hash(path: str) -> str:
    """The sha256 of the file's bytes, packed as they are."""
    with opened(path, unpack=False) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_hash(folder: Path) -> str:
    """A sha256 over the names within the folder and the bytes of every file in it."""
    whole = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{file.relative_to(folder).as_posix()}\0{file_hash(str(file))}\n".encode())
    return whole.hexdigest()
