"""Texts put together again."""

from __future__ import annotations

import re

from understudy.segment import signs

_FULL_WIDTH = re.compile(f"[{signs.FULL_WIDTH_STOPS}{signs.FULL_WIDTH_PAUSES}]")
_IDEOGRAPH = re.compile(f"[{signs.EAST_ASIAN}]")
_CLOSERS = "\"'”’“‘»«›‹」』）】〕》〉"


def separator(before: str, after: str) -> str:
    """What stands between two texts: a space, or nothing where one is empty or the script puts none there.

    That is between two ideographs or kana, and after a full-width sign, whatever quotes and brackets close there.
    White space at the touching ends does not count.
    """
    before, after = before.rstrip(), after.lstrip()
    if not before or not after:
        return ""
    sign = before.rstrip(_CLOSERS)[-1:]
    if _FULL_WIDTH.match(sign) or (_IDEOGRAPH.match(before[-1]) and _IDEOGRAPH.match(after)):
        return ""
    return " "


def joined(before: str, after: str) -> str:
    """Two texts as one, without the white space where they touch, with ``separator`` there."""
    before, after = before.rstrip(), after.lstrip()
    return before + separator(before, after) + after
