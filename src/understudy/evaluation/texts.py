"""What the metrics over texts count: an answer is a text, or several references of which the best counts."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from understudy.evaluation.labels import Answer, Pair
from understudy.evaluation.numbers import last_number, same_number
from understudy.records import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

UNIT = 10**9  # a row's score is counted in such parts: whole numbers, whose sums are exact in any order

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_KEPT = 50_000  # every arm meets every other one: what was counted for a pair is kept


def references(target: Target) -> Answer:
    """The texts that are right; no answer is the empty text."""
    return (target,) if isinstance(target, str) else target or ("",)


def mean_of_best(score: Callable[[str, str], float]) -> Callable[[Sequence[Pair]], NDArray[Any]]:
    """Counts [pairs, 2]: the best ``score(reference, text)`` of a row and 1, both in units."""
    kept = lru_cache(maxsize=_KEPT)(score)

    def count(pairs: Sequence[Pair]) -> NDArray[Any]:
        import numpy as np

        best = (max(kept(reference, text) for reference in gold) for gold, (text, *_) in pairs)
        return np.array([(round(score * UNIT), UNIT) for score in best], dtype=np.int64)

    return count


def exact_text(reference: str, text: str) -> float:
    return float(text.strip() == reference.strip())


def exact_match(reference: str, text: str) -> float:
    return float(squad_normal(text) == squad_normal(reference))


def token_f1(reference: str, text: str) -> float:
    gold, predicted = squad_normal(reference).split(), squad_normal(text).split()
    if not gold or not predicted:
        return float(gold == predicted)
    shared = (Counter(gold) & Counter(predicted)).total()
    return 2 * shared / (len(gold) + len(predicted))


def right_number(reference: str, text: str) -> float:
    gold, predicted = last_number(reference), last_number(text)
    if gold is None:
        return exact_match(reference, text)
    return float(predicted is not None and same_number(gold, predicted))


def squad_normal(text: str) -> str:
    """Lower case without ASCII punctuation and English articles, words parted by one space.

    After the evaluation script of SQuAD, https://rajpurkar.github.io/SQuAD-explorer/.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def rouge_l(reference: str, text: str) -> float:
    return _rouge().score(reference, text)["rougeL"].fmeasure


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


@lru_cache(maxsize=2)
def _sacrebleu(name: str) -> Any:
    from sacrebleu import metrics

    return getattr(metrics, name)()


def sentence_bleu(reference: str, text: str) -> float:
    """sacrebleu's BLEU of one text, out of 1: of the n-grams up to the longest that the text is long enough for.

    Without that effective order a text of under four words would score next to nothing, whatever it says.
    """
    return min(_sentence_bleu().sentence_score(text, [reference]).score / 100, 1)


@lru_cache(maxsize=1)
def _sentence_bleu() -> Any:
    from sacrebleu.metrics import BLEU  # pyright: ignore[reportPrivateImportUsage]

    return BLEU(effective_order=True)


# sacrebleu's own bootstrap stands on the same two methods: a segment's statistics, and the score of their sums.


@lru_cache(maxsize=_KEPT)
def _segment(name: str, gold: Answer, text: str) -> list[int]:
    return _sacrebleu(name)._extract_corpus_statistics([text], [[reference] for reference in gold])[0]


def corpus_counts(name: str) -> Callable[[Sequence[Pair]], NDArray[Any]]:
    """Counts [pairs, k]: the sufficient statistics of sacrebleu's ``BLEU`` or ``CHRF``."""

    def count(pairs: Sequence[Pair]) -> NDArray[Any]:
        import numpy as np

        return np.array([_segment(name, gold, text) for gold, (text, *_) in pairs], dtype=np.int64)

    return count


def corpus_score(name: str) -> Callable[[Floats], Floats]:
    """The score of summed statistics, out of 1."""

    def score(sums: Floats) -> Floats:
        import numpy as np

        found = [_sacrebleu(name)._compute_score_from_stats(row).score for row in sums.tolist()]
        return np.minimum(np.array(found, dtype=np.float64) / 100, 1)  # 100 is 100.00000000000004 at times

    return score


def constant_text(gold: Sequence[Target]) -> list[Target]:
    """The most frequent answer as it is written."""
    return [Counter(text for target in gold for text in dict.fromkeys(references(target))).most_common(1)[0][0]]
