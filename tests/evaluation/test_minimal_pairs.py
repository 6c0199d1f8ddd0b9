"""Files of minimal pairs read, judged by scorers whose choices are known, and summed up."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import DataError
from understudy.evaluation.minimal_pairs import (
    Pair,
    Scorer,
    evaluate_pairs,
    judge,
    read_pairs,
    summarise,
    vocabulary,
    words_of,
)
from understudy.sources import Source

BLIMP: dict[str, Any] = {
    "sentence_good": "Who should Derek hug after shocking Richard?",
    "sentence_bad": "Who should Derek hug Richard after shocking?",
    "field": "syntax",
    "linguistics_term": "island_effects",
    "UID": "adjunct_island",
    "simple_LM_method": True,
    "pairID": "0",
}


def write(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path)


def pairs(right: dict[str, tuple[int, int]], field: str = "syntax") -> list[Pair]:
    """Of each paradigm so many pairs, of which a model that likes ``+`` has so many right."""
    return [
        Pair(f"a {'+' if n < hits else '-'} {n}", f"b {'-' if n < hits else '+'} {n}", paradigm, {"field": field})
        for paradigm, (hits, size) in right.items()
        for n in range(size)
    ]


def likes_plus(sentences: Iterable[str]) -> Iterator[float]:
    return (float("+" in sentence) for sentence in sentences)


def test_blimp_is_read_with_its_paradigms_and_groups(tmp_path: Path):
    other = {**BLIMP, "UID": "principle_A_case_2", "linguistics_term": "binding", "field": "syntax/semantics"}
    first, second = read_pairs(write(tmp_path / "all.jsonl.gz", [BLIMP, other]))
    assert (first.good, first.bad) == (BLIMP["sentence_good"], BLIMP["sentence_bad"])
    assert (first.paradigm, first.groups) == (
        "adjunct_island", {"linguistics_term": "island_effects", "field": "syntax"},
    )  # fmt: skip
    assert second.groups["field"] == "syntax_semantics"


def test_a_file_without_paradigms_is_one_by_its_name(tmp_path: Path):
    row = {"sentence_good": "What did you get?\nI got a chair.", "sentence_bad": "What did you get?\nI got a teacher."}
    (pair,) = read_pairs(write(tmp_path / "qa_congruence_easy.jsonl.gz", [row]))
    assert (pair.paradigm, pair.groups) == ("qa_congruence_easy", {})
    assert "\n" in pair.good


def test_columns_have_the_names_that_are_given(tmp_path: Path):
    path = tmp_path / "own.csv"
    path.write_text('ok,off,kind,length\n"She runs, fast.","She run, fast.",agreement,short\n')
    (pair,) = read_pairs(Source(path=str(path)), good="ok", bad="off", paradigm="kind", groups=["length", "field"])
    assert pair == Pair("She runs, fast.", "She run, fast.", "agreement", {"length": "short"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"sentence_good": "a", "sentence_bat": "b"},
            "row 1 has no column 'sentence_bad'. Did you mean",
        ),
        ({"sentence_good": " ", "sentence_bad": "b"}, "row 1: sentence_good: ' ' is no sentence"),
        ({"sentence_good": "a", "sentence_bad": 7}, "row 1: sentence_bad: 7 is no sentence"),
    ],
)
def test_a_row_that_is_no_pair_is_a_clear_line(row: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        list(read_pairs(write(tmp_path / "all.jsonl.gz", [BLIMP, row])))


def test_accuracies_are_over_pairs_and_over_paradigms():
    given = pairs({"many": (60, 80), "few": (5, 20)}) + pairs({"other": (10, 10)}, field="morphology")
    report = evaluate_pairs(given, likes_plus)
    assert {name: one.over_pairs.mean for name, one in report.paradigms.items()} == pytest.approx(
        {"many": 0.75, "few": 0.25, "other": 1.0}
    )
    assert report.overall.pairs == 110
    assert report.overall.over_pairs.mean == pytest.approx(75 / 110)
    assert report.overall.over_paradigms.mean == pytest.approx(2 / 3)
    syntax, morphology = report.groups["field"]["syntax"], report.groups["field"]["morphology"]
    assert (syntax.over_pairs.mean, syntax.over_paradigms.mean) == pytest.approx((0.65, 0.5))
    assert (morphology.over_pairs.low, morphology.over_pairs.mean) == (1.0, 1.0)
    for one in (report.overall, syntax, report.paradigms["few"]):
        for interval in (one.over_pairs, one.over_paradigms):
            assert interval.low < interval.mean < interval.high
            assert interval.per_seed == pytest.approx((interval.mean,))


def test_a_group_that_cuts_through_paradigms_counts_the_paradigms_in_it():
    given = [Pair("+", "-", "a", {"tense": "past"}), *[Pair("-", "+", "a", {"tense": "present"})] * 3]
    given += [Pair("+", "-", "b", {"tense": "present"})]
    report = evaluate_pairs(given, likes_plus)
    assert report.groups["tense"]["present"].over_pairs.mean == pytest.approx(1 / 4)
    assert report.groups["tense"]["present"].over_paradigms.mean == pytest.approx(1 / 2)
    assert report.overall.over_paradigms.mean == pytest.approx((1 / 4 + 1) / 2)


def test_a_model_that_tells_nothing_apart_has_a_half():
    report = evaluate_pairs(pairs({"a": (3, 7), "b": (2, 9)}), lambda sentences: (1.0 for _ in sentences))
    assert report.overall.ties == 16
    assert {one.over_pairs.mean for one in (report.overall, *report.paradigms.values())} == {0.5}


def test_intervals_narrow_with_pairs_and_hold_the_binomial_error():
    few, many = (evaluate_pairs(pairs({"a": (n * 7, n * 10)}), likes_plus).overall.over_pairs for n in (10, 1000))
    error = (0.7 * 0.3 / 100) ** 0.5
    assert few.high - few.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert many.high - many.low == pytest.approx((few.high - few.low) / 10, rel=0.15)


def test_the_order_of_the_pairs_leaves_no_trace():
    given = pairs({"a": (3, 7), "b": (2, 9)})
    mixed = random.Random(0).sample(given, len(given))
    assert evaluate_pairs(mixed, likes_plus).overall == evaluate_pairs(given, likes_plus).overall


def test_seeds_are_drawn_as_pairs_are():
    given = pairs({"a": (90, 100)})
    likes_minus: Scorer = lambda sentences: (-score for score in likes_plus(sentences))  # noqa: E731
    runs = [judge(given, scorer) for scorer in (likes_plus, likes_plus, likes_minus)]
    report = summarise(runs)
    assert report.overall.pairs == 100
    assert report.overall.over_pairs.per_seed == pytest.approx((0.9, 0.9, 0.1))
    assert report.overall.over_pairs.mean == pytest.approx(1.9 / 3)
    assert report.overall.over_pairs.low < 0.2  # thrice the third seed is among the draws
    with pytest.raises(DataError, match="judged different pairs"):
        summarise([runs[0], judge(given[1:], likes_plus)])


def test_pairs_with_words_that_were_never_read_are_dropped_and_counted():
    known = vocabulary(["The dog doesn't run. The DOG runs.", "A dog doesn’t run; it runs"])
    assert known == {"the", "dog", "doesn't", "run", "runs"}
    given = [
        Pair("The dog runs.", "The dog run.", "agreement"),
        Pair("The dog doesn't run.", "The dog doesn’t runs.", "agreement"),
        Pair("The cat runs.", "The cat run.", "agreement"),
        Pair("The dog runs.", "The dog ran.", "tense"),
    ]
    report = evaluate_pairs(given, likes_plus, known_words=known)
    assert report.overall.pairs == 2
    assert report.dropped == {"unknown_word": {"agreement": 1, "tense": 1}}
    with pytest.raises(DataError, match=r"no pairs to score \(4 dropped\)"):
        evaluate_pairs(given, likes_plus, known_words=set())


def test_words_are_compared_without_case_and_signs():
    assert words_of("Well-known O'Brien's “café”, 3 times_over!") == [
        "well-known", "o'brien's", "café", "3", "times", "over",
    ]  # fmt: skip


def test_pairs_are_not_read_before_the_scorer_asks_for_them():
    read: list[str] = []
    stream = (read.append(pair.paradigm) or pair for pair in pairs({"a": (1, 3)}))

    def scorer(sentences: Iterable[str]) -> Iterator[float]:
        for number, sentence in enumerate(sentences):
            assert len(read) == number // 2 + 1
            yield float("+" in sentence)

    assert evaluate_pairs(stream, scorer).overall.pairs == 3


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda sentences: iter(list(likes_plus(sentences))[1:]), "5 scores for 6 sentences"),
        (lambda sentences: (float("nan") for _ in sentences), "scores of a pair are nan and nan"),
    ],
)
def test_a_broken_scorer_is_a_clear_line(scorer: Scorer, message: str):
    with pytest.raises(DataError, match=message):
        evaluate_pairs(pairs({"a": (1, 3)}), scorer)
