"""How much of its own a piece of reasoning says: the scores by which AS-ES tells its segments apart.

"AS-ES Learning", arXiv 2403.01969. Two are those of a student that has learnt to reason: the ``entropy`` of what it
would have written in place of each token, and its ``loss`` on the piece. Three compare the piece with the question:
``bleu`` and ``rouge_l`` with the question as the reference, and ``embedding``, the cosine of all-MiniLM-L6-v2.
``location`` goes by the place alone. ``rouge_l`` sees a-z and 0-9 only, ``bleu`` needs spaces between words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from understudy.errors import MissingPackage, SettingsError
from understudy.segment import location

if TYPE_CHECKING:
    from understudy.retrieve.encoder import Encoder

Score: TypeAlias = Literal["entropy", "loss", "bleu", "rouge_l", "embedding", "location"]
Sees: TypeAlias = Literal["question", "earlier"]
Row: TypeAlias = tuple[str, str, Sequence[str]]
"""The prompt that a student reads, the question as plain text, and the pieces."""

BY_STUDENT: tuple[Score, ...] = ("entropy", "loss")
WINDOW = 256  # rows that are embedded together; no more are held in memory
PACKAGES: dict[Score, str] = {"bleu": "sacrebleu", "rouge_l": "rouge_score"}


def scores_of(
    rows: Iterable[Row], score: Score, *, model: Any = None, average: bool = False, sees: Sees = "question"
) -> Iterator[list[float]]:
    """One score a piece, row by row; memory does not grow with the rows.

    Args:
        rows: the prompt that a student reads, the question as plain text, and the pieces.
        score: ``entropy`` and ``loss`` in nats, ``location`` 0 or 1, the others at most 1.
        model: the causal or seq2seq student that scores by entropy and loss, as ``students.load_model`` gives it.
        average: entropy and loss as the mean over the piece's tokens, in place of the sum.
        sees: what the student sees before a piece: the prompt alone, or the earlier pieces too.

    Raises:
        SettingsError: entropy or loss without a model.
        MissingPackage: what the score needs is not installed.
        DataError: as ``students.piece_scores.score_pieces``.
    """
    if score in BY_STUDENT:
        if model is None:
            raise SettingsError(f"score: {score!r} is that of a trained student, and there is none; name the student")
        return _by_student(rows, score, model, average, sees)
    if score == "embedding":
        from understudy.retrieve.encoder import open_encoder

        return _by_embedding(rows, open_encoder())
    if score == "location":
        return (location(len(pieces)) for *_, pieces in rows)
    return _by_words(rows, score)


def _by_student(rows: Iterable[Row], score: Score, model: Any, average: bool, sees: Sees) -> Iterator[list[float]]:
    from understudy.students.piece_scores import score_pieces

    for scores in score_pieces(model, ((prompt, pieces) for prompt, _, pieces in rows), sees=sees):
        sums = [one.entropy if score == "entropy" else one.loss for one in scores]
        yield [total / max(1, one.tokens) for total, one in zip(sums, scores, strict=True)] if average else sums


def _by_embedding(rows: Iterable[Row], encoder: Encoder) -> Iterator[list[float]]:
    stream = iter(rows)
    while window := list(islice(stream, WINDOW)):
        vectors = iter(encoder.encode([text for _, question, pieces in window for text in (question, *pieces)]))
        for *_, pieces in window:
            question = next(vectors)
            yield [float(question @ next(vectors)) for _ in pieces]


def _by_words(rows: Iterable[Row], score: Score) -> Iterator[list[float]]:
    if find_spec(PACKAGES[score]) is None:
        raise MissingPackage(f"score {score!r} needs {PACKAGES[score]}: pip install 'understudy[evaluate]'")
    from understudy.evaluation.texts import rouge_l, sentence_bleu

    compare = sentence_bleu if score == "bleu" else rouge_l
    return ([compare(question, piece) for piece in pieces] for _, question, pieces in rows)
