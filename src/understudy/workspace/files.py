"""Files that are whole or absent."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from understudy.errors import OutOfSpace, WorkspaceError


def write_atomically(path: Path, content: bytes) -> None:
    """Write under a temporary name, flush to the disk, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a disk that is full or read-only, or takes no larger file, into one clear line."""
    try:
        yield
    except OutOfSpace:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                f"no space left on the disk that holds {str(folder)!r}; everything finished before is whole: "
                "free some space and run the same command again"
            ) from None
        if error.errno == errno.EFBIG:
            raise OutOfSpace(
                f"a file in {str(folder)!r} may not grow further: {error.strerror}; everything finished before is "
                "whole: raise the limit (ulimit -f), or use another disk, and run the same command again"
            ) from None
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOENT, errno.ENOTDIR):
            raise WorkspaceError(f"{error.filename or str(folder)!r} cannot be written: {error.strerror}") from None
        raise
