"""What came out of a study: ``report.json`` for scripts, ``REPORT.md`` and a terminal table for people."""

from understudy.report.files import write_reports
from understudy.report.results import ArmResult, RunResults, StepRows, StudentUse, TeacherUse
from understudy.report.summary import build
from understudy.report.terminal import terminal_table

__all__ = [
    "ArmResult",
    "RunResults",
    "StepRows",
    "StudentUse",
    "TeacherUse",
    "build",
    "terminal_table",
    "write_reports",
]
