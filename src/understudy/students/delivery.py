"""What the trainings of all students share: a folder that appears whole, and the care of processor and disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from threadpoolctl import threadpool_limits

from understudy.errors import OutOfSpace
from understudy.students import Progress, Trained

REPORT_EVERY_S = 0.3


def finished(folder: Path, fingerprint: str) -> Trained | None:
    """What this very training took, where it is over; the file is the last one written before the folder appears."""
    try:
        told = json.loads((folder / "training.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Trained(**told["trained"]) if told["fingerprint"] == fingerprint else None


def deliver(folder: Path, fingerprint: str, trained: Trained, save: Callable[[Path], None]) -> None:
    """Let ``save`` write the model into a folder beside ``folder``, then put it there in one move."""
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save(partial)
    told = {"fingerprint": fingerprint, "trained": asdict(trained)}
    (partial / "training.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial, folder)


def seldom(progress: Progress | None) -> Progress:
    """``progress`` at most a few times a second."""
    last = 0.0

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if progress is not None and (time.monotonic() - last >= REPORT_EVERY_S or done == total):
            last = time.monotonic()
            progress(what, done, total)

    return report


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """PyTorch's threads as asked; numpy's and scipy's one, as more of them cost time at a head's sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def space(folder: Path) -> Iterator[None]:
    """A full disk as one clear line."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if full or "os error 28" in str(error) or "No space left" in str(error):
            told = f"the disk is full at {str(folder)!r}; free some space and run the same command again"
            raise OutOfSpace(told) from error
        raise
