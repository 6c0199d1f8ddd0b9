"""The form in which texts are compared."""

from __future__ import annotations

import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from understudy.records import normalise

INVISIBLE = "\u00ad\u200b\u200d\ufeff"
words = st.text(st.characters(categories=["L", "Nd"]), min_size=1)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("pass\u00adword", "password"),
        ("can't", "CANT"),
        ("can’t", "cant"),
        ("canʼt", "can`t"),
        ("rent-payment", "Rent payment."),
        ("caf\u00e9", "cafe\u0301"),
        ("pass\u200bword", "password"),
        ("Straße", "STRASSE"),
        ("\uff21\uff11", "a1"),
        ("\u0915\u093f", "\u0915\u093f!"),
    ],
)
def test_texts_that_are_the_same(text: str, same: str) -> None:
    assert normalise(text) == normalise(same)


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("\U0001f44d", "\U0001f44e"),
        ("+", "-"),
        ("re payment", "repayment"),
        ("cafe", "caf\u00e9"),
        ("\u0915\u093f", "\u0915\u0941"),
        ("", "!"),
    ],
)
def test_texts_that_differ(text: str, other: str) -> None:
    assert normalise(text) != normalise(other)


@given(st.text())
@example("\u0345")
@example("\u0149")
@example("\u1fb3\u200d\u0301")
@example("e\u00ad\u0301")
@example("\u00b4")
@example("!\u0338")
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once


@given(
    parts=st.lists(words, min_size=1),
    sign=st.sampled_from([" ", "-", ", ", "…\n", "_"]),
    form=st.sampled_from(("NFC", "NFD", "NFKC", "NFKD")),
    data=st.data(),
)
def test_case_signs_forms_and_invisible_characters_change_nothing(
    parts: list[str], sign: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"], data: st.DataObject
) -> None:
    text = " ".join(parts)
    other = unicodedata.normalize(form, sign.join(parts))
    at = data.draw(st.integers(0, len(other)))
    other = other[:at] + data.draw(st.sampled_from(list(INVISIBLE + "'’"))) + other[at:]
    assert normalise(f"«{other.casefold()}!»") == normalise(text)


@given(st.text())
def test_any_text_is_equal_to_itself_in_another_form(text: str) -> None:
    assert normalise(unicodedata.normalize("NFD", text)) == normalise(unicodedata.normalize("NFC", text))
