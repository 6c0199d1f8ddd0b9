"""What came out of a study: ``report.json`` for scripts, ``REPORT.md`` and a terminal table for people."""

from understudy.report.files import read_report, write_reports
from understudy.report.results import ArmResult, RunResults, StudentUse, TeacherUse
from understudy.report.summary import build
from understudy.report.terminal import terminal_table

__all__ = [
    "ArmResult",
    "RunResults",
    "StudentUse",
    "TeacherUse",
    "build",
    "read_report",
    "terminal_table",
    "write_reports",
]
