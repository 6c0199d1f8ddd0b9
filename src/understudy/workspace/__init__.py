"""The run folder: steps as files, whole or absent, made once and reused."""

from understudy.workspace.folder import Workspace
from understudy.workspace.order import most_frequent_first, twice
from understudy.workspace.rows import Rows, Taken

__all__ = ["Rows", "Taken", "Workspace", "most_frequent_first", "twice"]
