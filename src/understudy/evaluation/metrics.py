"""The metrics. Each counts a few whole numbers a row and scores their sums, so that one model and a bootstrap share it.

For kinds with labels (classification, multilabel, choice) an answer is a set: one label or option, any number for
multilabel, none for a prediction of ``None``. For kind pretraining it is a sentence of the row's minimal pair, none for
a tie.

- ``accuracy``: the share of rows whose set is exactly the gold one.
- ``macro_f1``: the mean F1 of the labels that occur in gold or prediction (scikit-learn's default for classification).
- ``micro_f1``: F1 over all labels' decisions taken together. Under classification it equals accuracy.

- ``mcc``: Matthews' correlation of the gold and the predicted labels, from -1 to 1, of any number of labels (R_K).
- ``f1``: F1 of the label ``1``, as GLUE has it for MRPC and QQP, whose labels are 0 and 1.

A ratio of nothing to nothing is 0. For kinds with texts (extraction, numeric, generation) a prediction of ``None`` is
the empty text, and of several references the one that scores best counts. These are means over rows:

- ``numeric_accuracy``: the last number of the text is that of the reference, as ``last_number`` reads them and
  ``same_number`` compares them in ``understudy.evaluation.numbers``. A reference without a number asks for an
  ``exact_match``.
- ``exact_text``: the text is the reference, but for white space around it.
- ``exact_match``: the same after SQuAD's normalisation, which takes out case, ASCII punctuation and English articles,
  and so takes 1.5 for 15: numeric tasks have ``exact_text`` instead.
- ``token_f1``: SQuAD's F1 of the bags of normalised words. Where one has no words it is 1 if neither has, as in SQuAD
  2.0, else 0.
- ``rouge_l``: F1 by the longest common subsequence of words, by ``rouge_score`` without stemming. It sees a-z and 0-9
  only, so it does not fit languages of other scripts.

And these are scores of the whole split as ``sacrebleu`` defines them, but out of 1 in place of 100. A bootstrap adds up
the statistics of the rows that it draws and scores the sums, which is exactly the score of the drawn corpus:

- ``bleu``: that of ``corpus_bleu``: up to 4-grams, tokenizer 13a, case kept, exponential smoothing. n-grams are looked
  for in all references, and the closest one's length counts. A split without any four words in a row scores 0.
- ``chrf``: chrF2, that of ``corpus_chrf``: n-grams of up to 6 characters without spaces, recall weighs double. Where
  references are equally good, the first counts.

``rationale_rouge_l`` and ``rationale_bleu`` are those of the reasoning that a student wrote against the test row's; one
that wrote none has the empty text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeAlias

from understudy.errors import DataError, MissingPackage, SettingsError
from understudy.evaluation import labels, texts
from understudy.evaluation.labels import Answer, Pair
from understudy.records import Target
from understudy.settings import did_you_mean
from understudy.task import Kind, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]


RATIONALE = "rationale_"
"""What the metrics of the reasoning begin with."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is computed, and what it needs.

    Attributes:
        answer: what of an answer counts; rows whose answers are equal in it are alike.
        count: (gold, predicted) pairs -> whole numbers [pairs, k], at least 0.
        score: their sums over rows [resamples, k] -> [resamples].
        constants: gold answers -> answers of which one is the best that is the same for all rows; ``None`` where no
            such answer is known, and with it no chance level.
        package: what must be importable, of the extra ``evaluate``.
    """

    answer: Callable[[Target], Answer]
    count: Callable[[Sequence[Pair]], NDArray[Any]]
    score: Callable[[Floats], Floats]
    constants: Callable[[Sequence[Target]], list[Target]] | None
    package: str | None = None


def _mean(sums: Floats) -> Floats:
    return sums[:, 0] / sums[:, 1]


def _over_labels(count: Callable[[Sequence[Pair]], NDArray[Any]], score: Callable[[Floats], Floats]) -> Metric:
    return Metric(labels.label_set, count, score, labels.constant_labels)


def _over_rows(score: Callable[[str, str], float], *, exact: bool = False, package: str | None = None) -> Metric:
    constants = texts.constant_text if exact else None
    return Metric(texts.references, texts.mean_of_best(score), _mean, constants, package)


def _of_corpus(name: str) -> Metric:
    return Metric(texts.references, texts.corpus_counts(name), texts.corpus_score(name), None, "sacrebleu")


METRICS: dict[str, Metric] = {
    "accuracy": _over_labels(labels.exact, _mean),
    "macro_f1": _over_labels(labels.decisions, labels.macro_f1),
    "micro_f1": _over_labels(labels.decisions, labels.micro_f1),
    "mcc": _over_labels(labels.confusions, labels.mcc),
    "f1": _over_labels(labels.decisions_on_one, labels.micro_f1),
    "numeric_accuracy": _over_rows(texts.right_number, exact=True),
    "exact_text": _over_rows(texts.exact_text, exact=True),
    "exact_match": _over_rows(texts.exact_match, exact=True),
    "token_f1": _over_rows(texts.token_f1),
    "rouge_l": _over_rows(texts.rouge_l, package="rouge_score"),
    "bleu": _of_corpus("BLEU"),
    "chrf": _of_corpus("CHRF"),
}
METRICS |= {f"{RATIONALE}{name}": METRICS[name] for name in ("rouge_l", "bleu")}
_OF_REASONING = (f"{RATIONALE}rouge_l", f"{RATIONALE}bleu")
KINDS: Mapping[str, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "micro_f1", "mcc", "f1", *_OF_REASONING),
    "multilabel": ("accuracy", "macro_f1", "micro_f1"),
    "choice": ("accuracy", *_OF_REASONING),
    "extraction": ("exact_match", "token_f1", *_OF_REASONING),
    "numeric": ("numeric_accuracy", "exact_text", *_OF_REASONING),
    "generation": ("rouge_l", "bleu", "chrf", "exact_match", "token_f1"),
    "pretraining": ("accuracy",),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a metric counts in the rows of some runs; rows alike in gold and in every run stand once, in sorted order.

    ``of_pair`` [pairs, k] holds whole numbers for each pair of answers, ``runs`` [runs, rows] says which pair a row is,
    ``rows`` [rows] how many rows are alike. The order of the rows that came in leaves no trace.
    """

    metric: Metric
    of_pair: NDArray[Any]
    runs: NDArray[np.intp]
    rows: NDArray[np.intp]


def count(metric: str, gold: Sequence[Target], runs: Sequence[Sequence[Target]]) -> Counts:
    """What the metric counts in any number of runs on the same rows.

    Raises:
        DataError: there are no rows or runs, a gold answer is missing, or a run has another number of rows.
        MissingPackage: the metric's package is not installed.
    """
    import numpy as np

    if not gold or not runs:
        raise DataError(
            f"nothing to score: {len(gold)} rows with a gold answer, {len(runs)} runs; check the test split"
        )
    if None in gold:
        raise DataError(f"test row {list(gold).index(None)} has no target; every test row needs one")
    for run in runs:
        if len(run) != len(gold):
            raise DataError(f"{len(run)} predictions for {len(gold)} test rows; predict the whole test split again")
    _check_package(metric)
    found = METRICS[metric]
    rows = [[found.answer(answer) for answer in answers] for answers in (gold, *runs)]
    answers = sorted({answer for row in rows for answer in row})
    code = {answer: i for i, answer in enumerate(answers)}
    codes = np.array([[code[answer] for answer in row] for row in rows], dtype=np.intp)
    codes, alike = np.unique(codes, axis=1, return_counts=True)
    pairs, which = np.unique(codes[0] * len(answers) + codes[1:], return_inverse=True)
    of_pair = found.count([(answers[pair // len(answers)], answers[pair % len(answers)]) for pair in pairs])
    return Counts(metric=found, of_pair=of_pair, runs=which.reshape(len(runs), -1), rows=alike)


def metric_names(kind: Kind) -> tuple[str, ...]:
    """The metrics that there are for a kind of task."""
    return KINDS.get(kind, ())


def check_metrics(names: Iterable[str], kind: Kind) -> None:
    """Refuse a metric that there is not, or that cannot be computed here.

    Raises:
        SettingsError: names the metric, the kind and the known metrics.
        MissingPackage: the metric's package is not installed.
    """
    known = list(metric_names(kind))
    for name in names:
        if name not in known:
            raise SettingsError(f"task.metrics: {name!r} is no metric for kind: {kind}. {did_you_mean(name, known)}")
        _check_package(name)


def _check_package(name: str) -> None:
    package = METRICS[name].package
    if package and find_spec(package) is None:
        raise MissingPackage(f"metric {name!r} needs {package}: pip install 'understudy[evaluate]'")


def weighted_scores(counts: Counts, weights: NDArray[Any]) -> Floats:
    """The score of each run under each weighting of the rows.

    Args:
        weights: [resamples, rows], whole numbers that add up to the number of rows that came in.

    Returns:
        [resamples, runs] in float64.
    """
    import numpy as np

    largest = int(counts.of_pair.max(initial=0)) * int(counts.rows.sum())
    exact = np.float32 if largest < 2**24 else np.float64  # sums of whole numbers up to here are exact in any order
    weights = weights.astype(exact, copy=False)
    sums = (weights @ counts.of_pair[run].astype(exact) for run in counts.runs)
    return np.stack([counts.metric.score(each.astype(np.float64)) for each in sums], axis=1)


def score(metric: str, task: Task, targets: Sequence[Target], predictions: Sequence[Target]) -> float:
    """The score of one model.

    Raises:
        SettingsError: the metric is none of the task's kind.
        MissingPackage: the metric's package is not installed.
        DataError: the rows do not match, or a target is missing.
    """
    check_metrics([metric], task.kind)
    counts = count(metric, targets, [predictions])
    return float(weighted_scores(counts, counts.rows[None])[0, 0])
