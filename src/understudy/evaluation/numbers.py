"""The number in an answer, read by one rule, for people's and models' ways of writing it."""

from __future__ import annotations

import math
import re
from collections import deque
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\.)\.\d+)(?:[eE][-+]?\d{1,3}(?!\d))?"
# Linear in the text: a number starts only where no other one can have started before.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])(?P<sign>[-−+])[$€£¥₹]?)?(?<![\w^])"
    r"(?:(?P<whole>\d+)[ ]+(?=\d+/\d))?"
    rf"(?P<above>{_DECIMAL})(?:[ ]?/[ ]?(?P<below>{_DECIMAL}))?"
    r"(?P<percent>[ ]?(?:%|per ?cent\b))?"
)


class Number(NamedTuple):
    """What a text says: ``25 %`` is 25 with ``percent``."""

    value: Decimal
    percent: bool


@lru_cache(maxsize=100_000)
def last_number(text: str) -> Number | None:
    """The last number of a text; ``None`` where there is none, or a division by 0.

    - Commas part thousands (``1,234``); elsewhere they part numbers (``1,5`` is 1, then 5).
    - A sign touches its number or the currency before it (``-3``, ``-$3``); between two things it is none (``10-3``).
    - ``.5``, ``1.5e3``, ``3/4`` and ``1 3/4`` are one number each. Powers and number words are not read.
    - Units stand after (``5 km``, ``5kg``, ``5 %``) or are a currency sign before (``$5``). Digits right after a letter
      or ``^`` are a part of a name or unit (``CO2``, ``m^2``) and no number.
    """
    found = deque(_NUMBER.finditer(text), maxlen=1)
    if not found:
        return None
    last = found[0]
    try:
        value = _decimal(last["above"])
        if last["below"]:
            value = _decimal(last["whole"] or "0") + value / _decimal(last["below"])
    except ArithmeticError:
        return None
    return Number(value.copy_negate() if last["sign"] in ("-", "−") else value, last["percent"] is not None)


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", ""))


def same_number(a: Number, b: Number) -> bool:
    """Whole numbers are the same only exactly, others within a billionth of their size.

    Where only one is a percentage, ``25 %`` is both 25, for questions that ask how many percent, and 0.25.
    """
    if a.percent == b.percent or _close(a.value, b.value):
        return _close(a.value, b.value)
    return _close(*(number.value.scaleb(-2) if number.percent else number.value for number in (a, b)))


def _close(a: Decimal, b: Decimal) -> bool:
    if a == a.to_integral_value() and b == b.to_integral_value():
        return a == b
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
