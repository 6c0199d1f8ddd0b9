"""Documents as sentences, by the rules of sentencex."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from os import PathLike

from understudy.corpus.documents import Document, documents, dropped
from understudy.corpus.settings import Corpus
from understudy.errors import DataError, MissingPackage
from understudy.records import Dropped
from understudy.settings import validate

LONGEST_PARAGRAPH = 1 << 20  # characters; the time that many open quotes take grows with their square


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence and where it stands. Runs of white space are one space."""

    text: str
    file: str  # "text_books/train.jsonl.gz": from the folder that the corpus names on
    document: int  # counted from 0 in the file: the line of JSONL and text, the row of Parquet
    number: int  # counted from 0 in the document, dropped ones too

    @property
    def id(self) -> str:
        """Its place, the same on every machine."""
        return f"{self.file}:{self.document}.{self.number}"


def sentences(corpus: Corpus | str | PathLike[str]) -> Iterator[Sentence | Dropped]:
    """The sentences of a corpus in the order of its files; memory does not grow with it.

    What is left out is yielded as ``Dropped``, whose example holds the beginning of the text and, in ``fields``, its
    place. Reasons of a file: unknown_format, unreadable_file (what stood before the fault is kept), binary_file,
    empty_file; of a document: long_document, not_utf8, broken_json, no_text, nul_character, empty_document; of a part
    of it: long_paragraph, unsplittable, short_sentence, long_sentence.

    Raises:
        DataError: a path is not there, two of them hold files of the same name, or there is no sentence at all.
        MissingPackage: sentencex is not installed.
    """
    corpus = corpus if isinstance(corpus, Corpus) else validate(Corpus, corpus, "corpus")
    _needs_sentencex()
    reasons: Counter[str] = Counter()
    is_empty = True
    for document in documents(corpus):
        for one in [document] if isinstance(document, Dropped) else _sentences(document, corpus):
            if isinstance(one, Dropped):
                reasons[one.reason] += 1
            else:
                is_empty = False
            yield one
    if is_empty:
        why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items())) or "no file"
        raise DataError(f"{', '.join(corpus.paths)}: there is no sentence in it ({why}); look at format and column")


def _needs_sentencex() -> None:
    try:
        import sentencex  # noqa: F401
    except ImportError:
        raise MissingPackage('sentences need the package sentencex; pip install "understudy[text]"') from None


def _sentences(document: Document, corpus: Corpus) -> Iterator[Sentence | Dropped]:
    file, place, text = document
    if "\0" in text:
        yield dropped(file, "nul_character", "", text, place)
        return
    number = 0
    for paragraph in _paragraphs(text, corpus.wrapped):
        problem = ""
        pieces = [paragraph]
        if len(paragraph) > LONGEST_PARAGRAPH:
            problem = "long_paragraph"
        elif (split := _split(paragraph, corpus.language)) is None:
            problem = "unsplittable"
        else:
            pieces = split
        for piece in pieces:
            reason = problem or _fault(piece, corpus)
            if reason:
                yield dropped(file, reason, f"{len(piece)} characters", piece, place, number)
            else:
                yield Sentence(piece, file, place, number)
            number += 1
    if number == 0:
        yield dropped(file, "empty_document", "", "", place)


def _paragraphs(text: str, wrapped: bool) -> list[str]:
    """Each on one line with single spaces, which the splitter needs: other white space can make it panic."""
    lines = text.splitlines()
    if wrapped:
        lines = [" ".join(run) for blank, run in groupby(lines, key=lambda line: not line.strip()) if not blank]
    return [line for line in (" ".join(line.split()) for line in lines) if line]


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


def _fault(sentence: str, corpus: Corpus) -> str:
    if len(sentence) > corpus.max_characters:
        return "long_sentence"
    words = (word for word in sentence.split() if any(map(str.isalnum, word)))
    return "short_sentence" if len(list(islice(words, corpus.min_words))) < corpus.min_words else ""
