"""Texts cut into pieces, pieces tagged as extractive or abstractive, and put together again.

After AS-ES Learning (arXiv 2403.01969). What scores a piece stands elsewhere; here are only texts and numbers.
"""

from __future__ import annotations

from understudy.segment.ending import Ending
from understudy.segment.joining import joined, separator
from understudy.segment.pieces import count_words, split
from understudy.segment.tags import Piece, Tag, location, runs, shuffled, tagged

__all__ = [
    "Ending",
    "Piece",
    "Tag",
    "count_words",
    "joined",
    "location",
    "runs",
    "separator",
    "shuffled",
    "split",
    "tagged",
]
