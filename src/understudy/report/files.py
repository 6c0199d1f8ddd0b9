"""The report as files in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from understudy.errors import DataError, MissingPackage
from understudy.report.curves import FILE, curves_picture, has_curves
from understudy.report.markdown import to_markdown
from understudy.report.sweep_markdown import sweep_to_markdown
from understudy.workspace.files import disk_errors, write_atomically


def write_reports(folder: str | Path, report: Mapping[str, Any]) -> None:
    """Write ``report.json`` and ``REPORT.md``, each whole or not at all. The same report gives the same bytes.

    Where students were measured as they learnt and matplotlib is installed, ``curves.svg`` stands beside them.

    Raises:
        OutOfSpace: the disk is full; an earlier report is still there.
        WorkspaceError: the folder cannot be written.
    """
    folder = Path(folder)
    with disk_errors(folder):
        write_atomically(folder / "report.json", _as_json(report))
        picture = FILE if _write_curves(folder / FILE, report) else None
        write_atomically(folder / "REPORT.md", to_markdown(report, picture).encode())


def _write_curves(path: Path, report: Mapping[str, Any]) -> bool:
    """Whether there is a picture."""
    try:
        if has_curves(report):
            write_atomically(path, curves_picture(report))
            return True
    except MissingPackage:
        pass  # the report's table has where the curves end, and report.json all of them
    path.unlink(missing_ok=True)  # it would show an earlier run
    return False


def read_report(folder: str | Path) -> dict[str, Any]:
    """What stands in the ``report.json`` of a run folder.

    Raises:
        DataError: there is none yet.
    """
    path = Path(folder) / "report.json"
    if not path.is_file():
        raise DataError(f"there is no report.json in {str(folder)!r}; name a run folder, or finish its run first")
    try:
        report = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        report = None
    if not isinstance(report, dict) or not report.keys() >= {"study", "arms", "comparisons", "notes"}:
        raise DataError(f"{path}: this is no report; run the study again to write it anew")
    return report


def write_sweep(folder: str | Path, sweep: Mapping[str, Any]) -> None:
    """Write ``sweep.json``, ``SWEEP.md`` and, where matplotlib is installed, ``sweep.svg``.

    Raises:
        MissingPackage: there is no matplotlib; the rest is written.
        OutOfSpace, WorkspaceError: as ``write_reports``.
    """
    from understudy.report.picture import sweep_picture

    folder = Path(folder)
    missing = None
    with disk_errors(folder):
        try:
            write_atomically(folder / "sweep.svg", sweep_picture(sweep))
        except MissingPackage as error:
            (folder / "sweep.svg").unlink(missing_ok=True)  # it would show an earlier sweep
            missing = error
        write_atomically(folder / "sweep.json", _as_json(sweep))
        write_atomically(folder / "SWEEP.md", sweep_to_markdown(sweep, None if missing else "sweep.svg").encode())
    if missing:
        raise missing


def _as_json(values: Mapping[str, Any]) -> bytes:
    return orjson.dumps(dict(values), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
