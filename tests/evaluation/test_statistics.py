"""Intervals, paired differences, chance and label saving."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from understudy.errors import DataError
from understudy.evaluation import statistics
from understudy.evaluation.statistics import Difference, LabelSaving, chance, interval, label_saving, paired

LABELS = ["transfer", "card", "loan", "branch"]

metrics = st.sampled_from(["accuracy", "macro_f1", "micro_f1"])
label = st.sampled_from(LABELS)


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    gold = draw(st.lists(label, min_size=1, max_size=25))
    run = st.lists(label, min_size=len(gold), max_size=len(gold))
    return gold, draw(st.lists(run, min_size=1, max_size=4))


def answering(gold: list[str], right: float, seed: int) -> list[str]:
    """A model that is right on a share of the rows."""
    draw = random.Random(seed)
    return [g if draw.random() < right else draw.choice(LABELS) for g in gold]


@given(metrics, studies())
@settings(max_examples=60, deadline=None)
def test_the_interval_holds_the_mean_of_the_seeds(metric: str, study: tuple[list[str], list[list[str]]]):
    gold, runs = study
    found = interval(metric, gold, runs, resamples=100)
    assert len(found.per_seed) == len(runs)
    assert found.mean == pytest.approx(sum(found.per_seed) / len(runs))
    assert 0 <= found.low <= found.mean <= found.high <= 1


@given(metrics, studies())
@settings(max_examples=40, deadline=None)
def test_an_arm_against_itself_shows_nothing(metric: str, study: tuple[list[str], list[list[str]]]):
    gold, runs = study
    assert paired(metric, gold, runs, runs, resamples=100) == Difference(0.0, 0.0, 0.0, 1.0)


@given(metrics, studies(), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_changes_nothing(
    metric: str, study: tuple[list[str], list[list[str]]], shuffle: random.Random
):
    gold, runs = study
    order = list(range(len(gold)))
    shuffle.shuffle(order)
    shuffled, reruns = [gold[i] for i in order], [[run[i] for i in order] for run in runs]
    assert interval(metric, shuffled, reruns, resamples=50) == interval(metric, gold, runs, resamples=50)
    assert paired(metric, shuffled, reruns, reruns[::-1], resamples=50) == paired(
        metric, gold, runs, runs[::-1], resamples=50
    )


@given(metrics, studies())
@settings(max_examples=30, deadline=None)
def test_turning_a_comparison_round_turns_its_sign(metric: str, study: tuple[list[str], list[list[str]]]):
    gold, runs = study
    other = [[LABELS[0]] * len(gold) for _ in runs]
    there = paired(metric, gold, runs, other, resamples=50)
    back = paired(metric, gold, other, runs, resamples=50)
    assert back.difference == -there.difference
    assert 0 < there.p <= 1
    assert there.low <= there.difference <= there.high


def test_all_right_is_certain_whatever_is_drawn():
    gold = LABELS * 5
    found = interval("macro_f1", gold, [gold, gold])
    assert (found.mean, found.low, found.high, found.per_seed) == (1, 1, 1, (1, 1))


def test_one_seed_has_the_interval_of_a_share():
    gold = ["card"] * 400
    found = interval("accuracy", gold, [["card"] * 320 + ["loan"] * 80], resamples=4000)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert found.mean == 0.8
    assert (found.low, found.high) == (pytest.approx(0.8 - half, abs=0.005), pytest.approx(0.8 + half, abs=0.005))


def test_seeds_that_differ_widen_the_interval():
    gold = ["card"] * 200
    right, wrong = ["card"] * 190 + ["loan"] * 10, ["card"] * 110 + ["loan"] * 90
    found = interval("accuracy", gold, [right, wrong])
    assert found.mean == 0.75
    assert found.low < 0.6  # one draw in four takes the same seed twice
    assert found.high > 0.9


@pytest.mark.slow
def test_the_bootstrap_is_that_of_a_plain_loop_with_scikit_learn():
    gold = LABELS * 30
    runs = [answering(gold, 0.7, seed) for seed in range(3)]
    draw, means = np.random.default_rng(7), []
    for _ in range(400):
        rows, seeds = draw.integers(len(gold), size=len(gold)), draw.integers(3, size=3)
        drawn = [gold[i] for i in rows]
        means.append(np.mean([f1_score(drawn, [runs[s][i] for i in rows], average="macro") for s in seeds]))
    found = interval("macro_f1", gold, runs)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.015)


def test_a_small_gain_on_the_same_rows_shows_because_the_comparison_is_paired():
    gold = LABELS * 100
    plain = [answering(gold, 0.6, seed) for seed in range(3)]
    better = [[g if i % 7 == 0 else p for i, (g, p) in enumerate(zip(gold, run, strict=True))] for run in plain]
    found = paired("accuracy", gold, better, plain)
    assert 0 < found.low < found.difference < found.high < 0.1
    assert found.p == pytest.approx(2 / 2001)  # the least that 2,000 resamples can say
    assert interval("accuracy", gold, better).low < interval("accuracy", gold, plain).high


def test_chunks_of_resamples_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch):
    gold = LABELS * 10
    runs = [answering(gold, 0.7, seed) for seed in range(2)]
    whole = interval("macro_f1", gold, runs, resamples=200)
    monkeypatch.setattr(statistics, "_CHUNK", 100)
    assert interval("macro_f1", gold, runs, resamples=200) == whole


def test_multilabel_rows_are_drawn_like_any_other():
    gold = [("card", "loan"), ("branch",), ()] * 20
    found = interval("micro_f1", gold, [gold, [("card",)] * 60])
    assert found.per_seed == pytest.approx((1, 2 * 20 / (60 + 60)))
    assert found.low <= found.mean <= found.high


def test_arms_with_other_seeds_or_rows_are_refused():
    with pytest.raises(DataError, match="2 seeds against 1"):
        paired("accuracy", ["card"], [["card"], ["card"]], [["card"]])
    with pytest.raises(DataError, match="1 predictions for 2 test rows"):
        interval("accuracy", ["card", "loan"], [["card"]])
    with pytest.raises(DataError, match="0 runs"):
        interval("accuracy", ["card"], [])


def test_chance_is_the_best_that_one_answer_for_all_rows_reaches():
    gold = ["card"] * 3 + ["loan"] * 2
    assert chance("accuracy", gold) == 0.6
    assert chance("macro_f1", gold) == pytest.approx(2 * 3 / (3 + 5) / 2)
    assert chance("micro_f1", gold) == 0.6


@pytest.mark.slow
@given(st.lists(st.lists(label, unique=True).map(tuple), min_size=1, max_size=12), metrics)
@settings(max_examples=60, deadline=None)
def test_no_constant_set_of_labels_beats_chance(gold: list[tuple[str, ...]], metric: str):
    subsets = [tuple(x for i, x in enumerate(LABELS) if bits >> i & 1) for bits in range(16)]
    best = max(statistics.interval(metric, gold, [[s] * len(gold)], resamples=1).mean for s in subsets)
    assert chance(metric, gold) == pytest.approx(best)


def test_chance_of_a_choice_is_a_guess_among_the_options_of_each_row():
    assert chance("accuracy", ["a", "b", "c"], [("a", "b"), ("a", "b", "c", "d"), ("c", "d")]) == 1.25 / 3
    assert chance("accuracy", ["a"] * 1000, [("a", "b", "c", "d", "e")] * 1000) == 0.2
    with pytest.raises(DataError, match="test row 1 has no choices"):
        chance("accuracy", ["a", "b"], [("a", "b"), ()])


def test_chance_of_texts_is_the_most_frequent_answer_where_an_answer_is_right_or_wrong():
    assert chance("exact_match", ["Paris", ("Rome", "paris"), "Rome", "Paris"]) == 0.75
    assert chance("numeric_accuracy", ["5", "7", "$5", "5"]) == 0.75
    assert chance("rouge_l", ["a cat", "a dog"]) is None
    with pytest.raises(DataError, match="nothing to score"):
        chance("exact_match", [])


def test_label_saving_reads_the_curve_over_the_logarithm_of_the_rows():
    curve = [(100, 0.6), (400, 0.8), (1600, 0.9)]
    assert label_saving(curve, 0.7) == LabelSaving(200)
    assert label_saving(curve, 0.8) == LabelSaving(400)
    assert label_saving(curve, 0.85) == LabelSaving(800)
    assert label_saving(curve, 0.6) == LabelSaving(100)
    assert label_saving(curve, 0.91) == LabelSaving(1600, ">")
    assert label_saving(curve, 0.59) == LabelSaving(100, "<")


def test_label_saving_takes_the_fewest_rows_where_more_did_not_help():
    assert label_saving([(400, 0.8), (1600, 0.7), (100, 0.6)], 0.8) == LabelSaving(400)
    assert label_saving([(400, 0.8), (1600, 0.7), (100, 0.6)], 0.81) == LabelSaving(1600, ">")
    assert label_saving([(100, 0.5), (100, 0.7), (400, 0.8)], 0.7) == LabelSaving(200)


@pytest.mark.parametrize("curve", [[], [(100, 0.6)], [(100, 0.6), (100, 0.7)], [(0, 0.1), (100, 0.6)]])
def test_label_saving_needs_two_sizes(curve: list[tuple[int, float]]):
    assert label_saving(curve, 0.6) is None


@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0, 1)), min_size=2, max_size=6),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_better_score_never_saves_fewer_rows(curve: list[tuple[int, float]], one: float, other: float):
    low, high = sorted((one, other))
    worse, better = label_saving(curve, low), label_saving(curve, high)
    if worse and better:
        assert worse.rows <= better.rows


def test_label_saving_in_words():
    assert LabelSaving(1190).text(385) == "as 1,190 gold rows (3.1 times its 385)"
    assert LabelSaving(3850, ">").text(0) == "as more than 3,850 gold rows"
    assert LabelSaving(385, "<").text(385) == "as fewer than 385 gold rows (1.0 times its 385)"
