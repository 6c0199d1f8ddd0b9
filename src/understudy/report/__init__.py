"""What came out of a study: ``report.json`` for scripts, ``REPORT.md`` and terminal tables for people.

The same of a sweep, with a picture: ``sweep.json``, ``SWEEP.md``, ``sweep.svg``. Of a suite of tasks: ``table.json``,
``table.md``.
"""

from understudy.report.files import read_report, write_reports, write_sweep
from understudy.report.pairs import scores_by_group
from understudy.report.results import ArmResult, RunResults, StudentUse, TeacherUse
from understudy.report.suite import build_suite, write_suite
from understudy.report.summary import build, metrics_of
from understudy.report.sweep import SweepRun, build_sweep
from understudy.report.terminal import (
    terminal_groups,
    terminal_of,
    terminal_suite,
    terminal_sweep,
    terminal_tables,
)

__all__ = [
    "ArmResult",
    "RunResults",
    "StudentUse",
    "SweepRun",
    "TeacherUse",
    "build",
    "build_suite",
    "build_sweep",
    "metrics_of",
    "read_report",
    "scores_by_group",
    "terminal_groups",
    "terminal_of",
    "terminal_suite",
    "terminal_sweep",
    "terminal_tables",
    "write_reports",
    "write_suite",
    "write_sweep",
]
