"""Texts as sentences, by the rules of sentencex."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

from understudy.errors import MissingPackage
from understudy.records import Dropped, Example

STEP = "sentences"
LONGEST_PARAGRAPH = 1 << 20  # characters
OPEN_QUOTES = 1 << 28  # times the characters: of quotes that do not close each is looked for to the paragraph's end
QUOTES = ("“”", "‘’", "«»", "‹›", "„“", "「」", "『』", "《》")
EXCERPT = 200  # characters of a sentence that is out; the whole stands in its row


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and where it stands. Runs of white space are one space."""

    text: str
    row: str  # the row's id
    number: int  # counted from 0 in the row, dropped ones too


def sentences(
    rows: Iterable[Example],
    *,
    language: str = "en",
    wrapped: bool = False,
    min_words: int = 2,
    max_characters: int = 2_000,
) -> Iterator[Sentence | Dropped]:
    """The sentences of the rows' inputs in their order; memory does not grow with the rows.

    A sentence that is left out is a ``Dropped`` child of its row with the beginning of its text, for one of the reasons
    long_paragraph, unsplittable, short_sentence, long_sentence. A row in which there is none is dropped itself, as
    empty_document.

    Args:
        language: the code of the texts' language, as Wikipedia's; one that sentencex has no rules for is split as
            English.
        wrapped: whether lines are cut at a width, so that only an empty line ends a paragraph; else the end of a line
            ends a sentence too.
        min_words: sentences of fewer words are dropped; 1 for a language that is written without spaces.
        max_characters: sentences that are longer are dropped.

    Raises:
        MissingPackage: sentencex is not installed; raised as the sentences are drawn.
    """
    _needs_sentencex()
    for row in rows:
        number = 0
        for text, problem in _pieces(row.input, language, wrapped):
            reason = problem or _fault(text, min_words, max_characters)
            if reason:
                out = Example(
                    id=f"{row.id}+sentence.{number}",
                    input=_writable(text[:EXCERPT]),
                    origin=row.origin,
                    parents=(row.id,),
                )
                yield Dropped(out, STEP, reason, f"{len(text)} characters")
            else:
                yield Sentence(text, row.id, number)
            number += 1
        if number == 0:
            yield Dropped(row, STEP, "empty_document")


def _needs_sentencex() -> None:
    try:
        import sentencex  # noqa: F401
    except ImportError:
        raise MissingPackage('sentences need the package sentencex; pip install "understudy[text]"') from None


def _pieces(text: str, language: str, wrapped: bool) -> Iterator[tuple[str, str]]:
    """Each sentence, or a paragraph that cannot be split with the reason why."""
    for paragraph in _paragraphs(text, wrapped):
        if len(paragraph) > LONGEST_PARAGRAPH or _open_quotes(paragraph) * len(paragraph) > OPEN_QUOTES:
            yield paragraph, "long_paragraph"
        elif (split := _split(paragraph, language)) is None:
            yield paragraph, "unsplittable"
        else:
            yield from ((piece, "") for piece in split)


def _paragraphs(text: str, wrapped: bool) -> list[str]:
    """Each on one line with single spaces, which the splitter needs: other white space can make it panic."""
    lines = text.splitlines()
    if wrapped:
        lines = [" ".join(run) for blank, run in groupby(lines, key=lambda line: not line.strip()) if not blank]
    return [line for line in (" ".join(line.split()) for line in lines) if line]


def _open_quotes(paragraph: str) -> int:
    return max(paragraph.count(opens) - paragraph.count(closes) for opens, closes in QUOTES)


def _split(paragraph: str, language: str) -> list[str] | None:
    """The sentences of a paragraph, or None if the splitter cannot take it."""
    import sentencex

    try:
        pieces = sentencex.segment(language, paragraph)  # pyright: ignore[reportAttributeAccessIssue]  # it has no stubs
    except UnicodeEncodeError:  # half a surrogate pair
        return None
    except BaseException as error:  # a panic is not an Exception
        if type(error).__name__ != "PanicException":
            raise
        return None
    return [piece.strip() for piece in pieces if not piece.isspace()]


def _fault(sentence: str, min_words: int, max_characters: int) -> str:
    if len(sentence) > max_characters:
        return "long_sentence"
    words = (word for word in sentence.split() if any(map(str.isalnum, word)))
    return "short_sentence" if len(list(islice(words, min_words))) < min_words else ""


def _writable(text: str) -> str:
    """A text may hold half a surrogate pair, which UTF-8 has not."""
    return text.encode(errors="backslashreplace").decode()
