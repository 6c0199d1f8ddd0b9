"""Scores of texts: by hand, against the libraries, and under resampling."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from understudy.errors import MissingPackage
from understudy.evaluation import check_metrics, evaluate, metrics, score
from understudy.evaluation.statistics import Difference, interval, paired
from understudy.evaluation.texts import sentence_bleu, squad_normal
from understudy.records import Example, Prediction
from understudy.task import METRICS, Task

WRITE = Task(instruction="Say it in other words.", kind="generation")
FIND = Task(instruction="Which words answer it?", kind="extraction")

words = st.lists(
    st.sampled_from(["the", "cat", "Cat", "sat", "on", "mat.", "a", "1.5", "It's", "-", "&amp;", "é"]), max_size=9
)
text = words.map(" ".join)
refs = st.lists(text, min_size=1, max_size=3).map(tuple)
rows = st.lists(st.tuples(refs, text), min_size=1, max_size=8)
of_text = st.sampled_from(["exact_match", "token_f1", "rouge_l", "bleu", "chrf"])


def corpus(library: Callable[..., Any], pairs: Sequence[tuple[tuple[str, ...], str]]) -> float:
    """sacrebleu's own score of a corpus, out of 1; rows may have different numbers of references."""
    most = max(len(gold) for gold, _ in pairs)
    streams = [[gold[i] if i < len(gold) else None for gold, _ in pairs] for i in range(most)]
    return library([predicted for _, predicted in pairs], streams).score / 100


@pytest.mark.slow
@given(rows)
@settings(max_examples=150, deadline=None)
def test_bleu_and_chrf_are_those_of_sacrebleu(pairs: list[tuple[tuple[str, ...], str]]):
    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    assert score("bleu", WRITE, gold, predicted) == pytest.approx(corpus(sacrebleu.corpus_bleu, pairs), abs=1e-12)
    assert score("chrf", WRITE, gold, predicted) == pytest.approx(corpus(sacrebleu.corpus_chrf, pairs), abs=1e-12)


@pytest.mark.slow
@given(rows)
@settings(max_examples=100, deadline=None)
def test_rouge_l_is_the_mean_of_rouge_score_with_the_best_reference(pairs: list[tuple[tuple[str, ...], str]]):
    scorer = RougeScorer(["rougeL"])
    theirs = [scorer.score_multi(gold, predicted)["rougeL"].fmeasure for gold, predicted in pairs]
    ours = score("rouge_l", WRITE, [g for g, _ in pairs], [p for _, p in pairs])
    assert ours == pytest.approx(np.mean(theirs), abs=1e-8)


@given(text, text)
@settings(deadline=None)
def test_the_bleu_of_one_text_is_that_of_sacrebleu_too(reference: str, predicted: str):
    theirs = sacrebleu.sentence_bleu(predicted, [reference], use_effective_order=True).score / 100
    assert sentence_bleu(reference, predicted) == pytest.approx(theirs, abs=1e-12)
    assert sentence_bleu(reference, predicted) <= 1


def test_bleu_and_chrf_of_real_sentences_with_duplicates_and_empty_predictions():
    gold = ["The quick brown fox jumps over the lazy dog.", "It isn't raining (yet) in Paris, is it?", "Yes."] * 3
    predicted = ["The brown fox jumps over a lazy dog.", "It isn't raining in Paris yet, is it?", ""] * 3
    pairs = [((g,), p) for g, p in zip(gold, predicted, strict=True)]
    found = score("bleu", WRITE, gold, predicted)
    assert 0.3 < found == pytest.approx(corpus(sacrebleu.corpus_bleu, pairs), abs=1e-12)
    found = score("chrf", WRITE, gold, predicted)
    assert 0.5 < found == pytest.approx(corpus(sacrebleu.corpus_chrf, pairs), abs=1e-12)
    assert score("bleu", WRITE, gold, [None] * 9) == score("chrf", WRITE, gold, [None] * 9) == 0


@pytest.mark.slow
@given(st.lists(text.filter(lambda t: len(t.split()) > 3), min_size=1, max_size=5))
@settings(deadline=None)
def test_the_reference_itself_scores_one_and_never_more(gold: list[str]):
    for metric in METRICS["generation"] + METRICS["extraction"]:
        assert score(metric, WRITE, gold, gold) <= 1
    assert score("bleu", WRITE, gold, gold) == pytest.approx(1)
    assert score("exact_match", WRITE, gold, gold) == score("token_f1", WRITE, gold, gold) == 1


@pytest.mark.parametrize(
    ("raw", "normal"),
    [
        ("The  Cat, sat.", "cat sat"),
        ("An apple a day", "apple day"),
        ("theatre", "theatre"),
        ("U.S.A.", "usa"),
        ("the", ""),
        ("rock-a-bye", "rockabye"),
        ("«café»", "«café»"),
    ],
)
def test_squad_normalisation(raw: str, normal: str):
    assert squad_normal(raw) == normal


@pytest.mark.parametrize(
    ("gold", "predicted", "exact", "f1"),
    [
        ("the Eiffel Tower", "Eiffel tower!", 1, 1),
        ("Eiffel Tower", "the tower of Eiffel in Paris", 0, 2 * 2 / (2 + 5)),
        ("to be or not to be", "to to to", 0, 2 * 2 / (6 + 3)),
        ("cat", "dog", 0, 0),
        ("cat", "", 0, 0),
        ("cat", None, 0, 0),
        ("", "", 1, 1),
        ("", "cat", 0, 0),
        ("the", "a", 1, 1),
        (("Paris", "city of light"), "the city of lights", 0, 2 * 2 / (3 + 3)),
        (("Paris", "city of light"), "City of Light", 1, 1),
    ],
)
def test_exact_match_and_token_f1_by_hand(gold: str | tuple[str, ...], predicted: str | None, exact: int, f1: float):
    assert score("exact_match", FIND, [gold], [predicted]) == exact
    assert score("token_f1", FIND, [gold], [predicted]) == pytest.approx(f1, abs=1e-8)


@pytest.mark.parametrize("metric", ["bleu", "chrf", "rouge_l", "token_f1"])
def test_the_bootstrap_scores_the_drawn_corpora(metric: str):
    """Every resample's score is what the metric gives for the rows it drew, written out as often as drawn."""
    draw = random.Random(3)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    gold = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(30)] + ["one two three four five"] * 2
    run = [" ".join(w for w in g.split() if draw.random() < 0.8) for g in gold]
    counts = metrics.count(metric, gold, [run, gold])
    drawn = np.random.default_rng(0).multinomial(len(gold), counts.rows / len(gold), size=20)
    scores = metrics.weighted_scores(counts, drawn.astype(np.float32))
    key = sorted(set(zip(gold, run, strict=True)))
    assert len(key) == len(counts.rows)
    for weights, (found, perfect) in zip(drawn, scores, strict=True):
        pairs = [pair for pair, times in zip(key, weights, strict=True) for _ in range(times)]
        assert found == pytest.approx(score(metric, WRITE, [g for g, _ in pairs], [p for _, p in pairs]), abs=1e-12)
        assert perfect == pytest.approx(1, abs=1e-3)  # chrF takes short texts' missing n-grams into account


@given(of_text, rows, st.randoms())
@settings(max_examples=40, deadline=None)
def test_intervals_of_texts_hold_the_mean_and_know_no_order(
    metric: str, pairs: list[tuple[tuple[str, ...], str]], shuffle: random.Random
):
    gold, run = [g for g, _ in pairs], [p for _, p in pairs]
    other = [g[0] for g in gold]
    found = interval(metric, gold, [run, other], resamples=40)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert paired(metric, gold, [run], [run], resamples=40) == Difference(0.0, 0.0, 0.0, 1.0)
    order = list(range(len(gold)))
    shuffle.shuffle(order)
    again = [[each[i] for i in order] for each in (run, other)]
    assert interval(metric, [gold[i] for i in order], again, resamples=40) == found


@pytest.mark.slow
def test_sums_beyond_what_float32_holds_stay_exact():
    gold = ["word " * 2000 + str(i) for i in range(40)]
    counts = metrics.count("chrf", gold, [gold])
    weights = np.full((1, len(counts.rows)), 1000, dtype=np.float32)
    assert metrics.weighted_scores(counts, weights)[0, 0] == 1.0


def test_the_choices_of_a_row_are_seen_by_the_model_that_is_evaluated():
    task = Task.model_validate(
        {"instruction": "Which?", "kind": "choice", "fields": {"input": "q", "target": "a", "choices": "c"}}
    )
    examples = [Example(id=str(i), input="?", target=right, choices=("x", "y")) for i, right in enumerate("xyx")]
    found = evaluate(lambda rows: [Prediction(row.choices[0]) for row in rows], task, examples)
    assert found == {"accuracy": pytest.approx(2 / 3)}


def test_an_extra_that_is_not_installed_is_named_before_anything_is_scored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics, "find_spec", lambda name: None)
    check_metrics(["exact_match"], "generation")
    for ask in (lambda: check_metrics(["bleu"], "generation"), lambda: interval("bleu", ["x"], [["x"]])):
        with pytest.raises(
            MissingPackage, match=r"metric 'bleu' needs sacrebleu: pip install 'understudy\[evaluate\]'"
        ):
            ask()
