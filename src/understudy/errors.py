"""Every error Understudy raises on purpose.

    UnderstudyError
    |- SettingsError       a study, option or argument is wrong            exit code 2
    |- DataError           a row, file or model folder is not as declared  exit code 2
    |- MissingPackage      an extra is not installed                       exit code 2
    |- WorkspaceError      the run folder cannot be used                   exit code 2
    |- TeacherError        the teacher cannot be reached or refuses us     exit code 2
    |  `- BudgetReached    the next request could pass the study's budget  exit code 1
    |- OutOfSpace          the disk is full                                exit code 2
    |- RowsLost            a step broke the conservation of rows (a bug)   exit code 1
    `- ParseError          one reply is not usable: its row is dropped, the run goes on

A message says what is wrong, which value (with ``!r``), where (file:line or field), and what to do.
Errors stay picklable: all of their state is in ``args``.
"""


class UnderstudyError(Exception):
    """The root of the tree; the command line prints it without a traceback."""

    exit_code = 1


class SettingsError(UnderstudyError, ValueError):
    """A setting is unknown, missing, of the wrong type, or does not go with another one."""

    exit_code = 2


class DataError(UnderstudyError, ValueError):
    """A source, row or model folder does not hold what the study says."""

    exit_code = 2


class MissingPackage(UnderstudyError, ImportError):
    """An optional package is needed; the message holds the ``pip install`` line."""

    exit_code = 2


class WorkspaceError(UnderstudyError):
    """The run folder is locked, belongs to another test split, or cannot be written."""

    exit_code = 2


class OutOfSpace(WorkspaceError, OSError):
    """The disk filled up; what was finished before is whole."""


class TeacherError(UnderstudyError):
    """The teacher cannot be used at all: no key, refused connection, unknown model."""

    exit_code = 2


class BudgetReached(TeacherError):
    """The next request could take the study over its budget; everything paid for is kept."""

    exit_code = 1


class RowsLost(UnderstudyError, AssertionError):
    """A step took in a row and neither kept, dropped nor joined it."""


class ParseError(UnderstudyError, ValueError):
    """A reply that a recipe cannot read.

    Args:
        reason: a stable snake_case word that is counted in the report, e.g. ``"not_a_label"``.
        detail: what was wrong with this reply, for a person.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason
