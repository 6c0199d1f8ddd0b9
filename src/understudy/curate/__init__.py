"""Which rows may stay."""

from understudy.curate.decontaminate import TestSplit, keep_out

__all__ = ["TestSplit", "keep_out"]
