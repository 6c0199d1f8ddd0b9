"""Texts come out as sentences with their places; what is left out says why."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from understudy.corpus import Sentence, sentences
from understudy.corpus.sentences import _split
from understudy.errors import MissingPackage
from understudy.records import Dropped, Example, Origin


def read(*texts: str, **settings: Any) -> tuple[list[Sentence], list[Dropped]]:
    rows = [Example(id=f"row {n}", input=text, origin=Origin("a/b", "train", n)) for n, text in enumerate(texts)]
    found = list(sentences(rows, **settings))
    return [one for one in found if isinstance(one, Sentence)], [one for one in found if isinstance(one, Dropped)]


def test_each_row_is_split_into_sentences():
    found, left_out = read(
        "One line. It has two sentences.\n\nMr. Smith saw Dr. Jones.", "A title\nIt rained\u00a0 all day."
    )
    assert found == [
        Sentence("One line.", "row 0", 0),
        Sentence("It has two sentences.", "row 0", 1),
        Sentence("Mr. Smith saw Dr. Jones.", "row 0", 2),
        Sentence("A title", "row 1", 0),
        Sentence("It rained all day.", "row 1", 1),
    ]
    assert not left_out


def test_wrapped_lines_are_joined_to_paragraphs():
    text = "The rain fell on\r\nthe roof. It\r\nstopped.\r\n \r\nThen came\r\nthe sun."
    found, _ = read(text, wrapped=True)
    assert [(one.text, one.number) for one in found] == [
        ("The rain fell on the roof.", 0),
        ("It stopped.", 1),
        ("Then came the sun.", 2),
    ]


def test_sentences_that_are_too_short_or_too_long_are_dropped_with_a_reason():
    text = '"Alas!"\n* * *\nIt fits well. ' + "much " * 500 + "too long.\nNo one-word line.\n"
    found, left_out = read(text)
    assert [(one.text, one.number) for one in found] == [("It fits well.", 2), ("No one-word line.", 4)]
    assert [(one.example.id, one.reason, one.detail) for one in left_out] == [
        ("row 0+sentence.0", "short_sentence", "7 characters"),
        ("row 0+sentence.1", "short_sentence", "5 characters"),
        ("row 0+sentence.3", "long_sentence", "2509 characters"),
    ]
    assert left_out[2].example.input == ("much " * 500)[:200]
    assert (left_out[2].example.parents, left_out[2].example.origin) == (("row 0",), Origin("a/b", "train", 0))
    assert len(read(text, min_words=0, max_characters=10_000)[1]) == 0


def test_what_cannot_be_split_is_dropped_with_a_reason():
    found, left_out = read(" \n", "half \ud800 a pair", "a " * 700_000 + "\nAfter it.")
    assert found == [Sentence("After it.", "row 2", 1)]
    assert [(one.example.id, one.reason, one.example.input[:3]) for one in left_out] == [
        ("row 0", "empty_document", " \n"),
        ("row 1+sentence.0", "unsplittable", "hal"),
        ("row 2+sentence.0", "long_paragraph", "a a"),
    ]
    left_out[1].example.input.encode()  # it can be written


def test_many_quotes_that_never_close_are_no_endless_paragraph():
    _, left_out = read("“a " * 20_000)
    assert [one.reason for one in left_out] == ["long_paragraph"]
    found, _ = read("“So it is,” he said. " * 5_000, max_characters=200)
    assert len(found) == 5_000


def test_a_panic_of_the_splitter_does_not_end_the_run():
    text = "A\u2028. b"  # sentencex 1.0.32 panics on it
    assert _split(text, "en") in (None, [text])


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(MissingPackage, match="understudy\\[text\\]"):
        read("A sentence.")
