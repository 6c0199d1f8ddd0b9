"""Tags, segments and how texts are put together again."""

from __future__ import annotations

from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.segment import Piece, joined, location, runs, separator, shuffled, split, tagged
from understudy.segment.tags import Tag

scored = st.lists(st.tuples(st.text(), st.floats(allow_nan=False, allow_infinity=False, width=32)))


def tags(pieces: list[Piece]) -> list[Tag]:
    return [piece.tag for piece in pieces]


def test_what_is_over_beta_times_the_mean_is_abstractive():
    pieces = tagged(["He had 2. ", "She had 3. ", "2 + 3 = 5."], [1.0, 2.0, 6.0])
    assert pieces[2] == Piece("2 + 3 = 5.", 6.0, 2.0, "as")
    assert tags(pieces) == ["es", "es", "as"]
    assert [piece.ratio for piece in pieces] == [1 / 3, 2 / 3, 2.0]
    assert tags(tagged(["a", "b"], [1.0, 3.0], beta=1.5)) == ["es", "es"]  # over it, not at it
    assert tags(tagged(["a", "b"], [1.0, 3.0], reverse=True)) == ["as", "es"]


def test_scores_without_a_sensible_mean():
    assert tagged([], []) == []
    assert tagged(["a", "b"], [0.0, 0.0]) == [Piece("a", 0.0, 0.0, "es"), Piece("b", 0.0, 0.0, "es")]
    assert tags(tagged(["a", "b"], [-1.0, 1.0])) == ["es", "as"]
    assert tags(tagged(["a", "b"], [-1.0, -3.0])) == ["as", "es"]  # -2.8 is the threshold
    with pytest.raises(ValueError):
        tagged(["a", "b"], [1.0])


def test_location_alternates():
    assert location(4) == [0.0, 1.0, 0.0, 1.0]
    assert location(0) == []
    for count in range(1, 9):
        assert tags(tagged(["a"] * count, location(count))) == (["es", "as"] * count)[:count]


def test_runs_are_neighbours_of_one_tag():
    pieces = tagged(list("abcde"), [1.0, 1.0, 5.0, 5.0, 1.0])
    assert ["".join(piece.text for piece in run) for run in runs(pieces)] == ["ab", "cd", "e"]
    assert runs(pieces, merge=False) == [[piece] for piece in pieces]
    assert runs([]) == []


@given(scored, st.text())
def test_shuffled_tags_are_the_same_tags(rows: list[tuple[str, float]], seed: str):
    pieces = tagged([text for text, _ in rows], [score for _, score in rows])
    dealt = shuffled(pieces, seed)
    assert sorted(tags(dealt)) == sorted(tags(pieces))
    assert [(piece.text, piece.score, piece.ratio) for piece in dealt] == [(p.text, p.score, p.ratio) for p in pieces]
    assert dealt == shuffled(pieces, seed)


def test_the_seed_deals():
    pieces = tagged(["a"] * 20, location(20))
    assert len({tuple(tags(shuffled(pieces, seed))) for seed in "abcdef"}) == 6


@pytest.mark.parametrize(
    ("before", "after", "whole"),
    [
        ("He has 2. ", " She has 3.", "He has 2. She has 3."),
        ("", " She has 3. ", "She has 3. "),
        (" He has 2.\n", "  ", " He has 2."),
        ("他有两个。", "她有三个", "他有两个。她有三个"),
        ("他说：“走。” ", "3个", "他说：“走。”3个"),
        ("苹果", "三个", "苹果三个"),
        ("苹果", "3", "苹果 3"),
        ("りんご", "は", "りんごは"),
        ("사과.", "배", "사과. 배"),
        ("ไก่", "ไข่", "ไก่ ไข่"),
        ("हैं।", "अब", "हैं। अब"),
        ("\u201d", "a", "\u201d a"),
    ],
)
def test_texts_are_put_together(before: str, after: str, whole: str):
    assert joined(before, after) == whole
    assert separator(before, after) in ("", " ")


def test_a_text_comes_back_from_its_pieces():
    for text in ['He has 2, so 3 more. Then "Go." She left (at 5, I think).', "他有5个，又买3个。“好。”是吗？"]:
        assert reduce(joined, split(text, short="keep"), "") == text


@given(st.text())
def test_joined_pieces_are_the_text_up_to_white_space(text: str):
    put_together = reduce(joined, (piece.strip() for piece in split(text)), "")
    assert "".join(put_together.split()) == "".join(text.split())
