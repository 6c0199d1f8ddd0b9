"""Scores of one model, by hand and against scikit-learn."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from sklearn.preprocessing import MultiLabelBinarizer

from understudy.errors import DataError, SettingsError
from understudy.evaluation import check_metrics, metric_names, score
from understudy.evaluation.statistics import chance, interval
from understudy.task import Task

TOPIC = Task(instruction="Which topic?", kind="classification", labels={"a": "a", "b": "b", "c": "c", "d": "d"})
TOPICS = Task(instruction="Which topics?", kind="multilabel", labels={"a": "a", "b": "b", "c": "c", "d": "d"})

label = st.sampled_from("abcd")
label_rows = st.lists(st.tuples(label, label), min_size=1, max_size=40)
some_labels = st.lists(label, unique=True).map(tuple)
set_rows = st.lists(st.tuples(some_labels, some_labels), min_size=1, max_size=40)


def test_accuracy_and_f1_of_four_rows_by_hand():
    gold, predicted = ["a", "a", "b", "b"], ["a", "b", "b", "c"]
    assert score("accuracy", TOPIC, gold, predicted) == 0.5
    # a: 1 right of 2 gold + 1 predicted; b: 1 of 2 + 2; c: 0 of 0 + 1; d occurs nowhere and does not count.
    assert score("macro_f1", TOPIC, gold, predicted) == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    assert score("micro_f1", TOPIC, gold, predicted) == 0.5


def test_a_multilabel_row_is_right_only_as_a_whole_and_the_order_of_its_labels_does_not_matter():
    gold, predicted = [("a", "b"), ("c",), ()], [("b", "a"), ("c", "d"), ()]
    assert score("accuracy", TOPICS, gold, predicted) == pytest.approx(2 / 3)
    assert score("micro_f1", TOPICS, gold, predicted) == pytest.approx(2 * 3 / (3 + 4))
    assert score("macro_f1", TOPICS, gold, predicted) == pytest.approx(3 / 4)


def test_no_answer_is_wrong_and_no_label_of_its_own():
    assert score("accuracy", TOPIC, ["a", "b"], ["a", None]) == 0.5
    assert score("macro_f1", TOPIC, ["a", "b"], ["a", None]) == 0.5


def test_nothing_to_find_and_nothing_found_is_zero_f1():
    assert score("macro_f1", TOPICS, [(), ()], [(), ()]) == 0
    assert score("micro_f1", TOPICS, [(), ()], [(), ()]) == 0
    assert score("accuracy", TOPICS, [(), ()], [(), ()]) == 1


@pytest.mark.slow
@given(label_rows)
def test_classification_agrees_with_scikit_learn(rows: list[tuple[str, str]]):
    gold, predicted = [g for g, _ in rows], [p for _, p in rows]
    assert score("accuracy", TOPIC, gold, predicted) == pytest.approx(accuracy_score(gold, predicted))
    for average in ("macro", "micro"):
        theirs = f1_score(gold, predicted, average=average, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        assert score(f"{average}_f1", TOPIC, gold, predicted) == pytest.approx(theirs)
    assert score("mcc", TOPIC, gold, predicted) == pytest.approx(matthews_corrcoef(gold, predicted), abs=1e-12)


@pytest.mark.slow
@given(label_rows)
def test_f1_of_the_label_1_agrees_with_scikit_learn(rows: list[tuple[str, str]]):
    gold, predicted = [g for g, _ in rows], [p for _, p in rows]
    gold, predicted = (["1" if one < "c" else "0" for one in side] for side in (["a", *gold], ["d", *predicted]))
    assert score("f1", TOPIC, gold, predicted) == pytest.approx(
        f1_score(list(map(int, gold)), list(map(int, predicted)))
    )
    with pytest.raises(DataError, match="that of the label 1, which no test row has"):
        score("f1", TOPIC, ["yes", "no"], ["yes", "yes"])


def test_mcc_of_an_answer_that_is_always_the_same_is_0_and_of_the_opposite_minus_1():
    assert score("mcc", TOPIC, ["a", "b", "b"], ["b", "b", "b"]) == 0
    assert score("mcc", TOPIC, ["a", "b", "b"], ["b", "a", "a"]) == -1
    assert interval("mcc", ["a", "b"] * 20, [["b", "a"] * 20]).mean == -1
    assert chance("mcc", ["a", "b", "b"]) == 0


@pytest.mark.slow
@given(set_rows)
def test_multilabel_agrees_with_scikit_learn_on_the_labels_that_occur(rows: list[tuple[tuple[str, ...], ...]]):
    gold, predicted = [g for g, _ in rows], [p for _, p in rows]
    occurring = sorted({label for answer in gold + predicted for label in answer})
    assume(len(occurring) > 1)  # scikit-learn takes one column for two classes
    matrices = [MultiLabelBinarizer(classes=occurring).fit_transform(answers) for answers in (gold, predicted)]
    assert score("accuracy", TOPICS, gold, predicted) == pytest.approx(accuracy_score(*matrices))
    for average in ("macro", "micro"):
        theirs = f1_score(*matrices, average=average, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        assert score(f"{average}_f1", TOPICS, gold, predicted) == pytest.approx(theirs)


def test_an_unknown_metric_is_refused_with_the_known_ones():
    check_metrics(metric_names("classification"), "classification")
    with pytest.raises(
        SettingsError, match=r"'acuracy' is no metric for kind: classification. Did you mean 'accuracy'"
    ):
        check_metrics(["acuracy"], "classification")
    with pytest.raises(SettingsError, match="Known: accuracy, macro_f1, micro_f1"):
        check_metrics(["rouge_l"], "multilabel")
    with pytest.raises(SettingsError, match="Known: accuracy"):
        score("macro_f1", Task(instruction="Write.", kind="pretraining"), ["x"], ["x"])


@pytest.mark.parametrize(
    ("gold", "predicted", "said"),
    [
        ([], [], "nothing to score"),
        (["a", None], ["a", "b"], "test row 1 has no target"),
        (["a", "b"], ["a"], "1 predictions for 2 test rows"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(gold: list[str], predicted: list[str], said: str):
    with pytest.raises(DataError, match=said):
        score("accuracy", TOPIC, gold, predicted)


def test_checking_names_and_importing_the_report_load_no_numpy():
    code = (
        "import sys, understudy.evaluation, understudy.report\n"
        "understudy.evaluation.check_metrics(['accuracy'], 'classification')\n"
        "assert 'numpy' not in sys.modules and 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
