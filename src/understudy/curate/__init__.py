"""Which rows may stay."""

from understudy.curate.decontaminate import TestSplit, screen

__all__ = ["TestSplit", "screen"]
