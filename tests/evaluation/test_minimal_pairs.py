"""Files of minimal pairs read as test rows, judged by scorers whose choices are known, and summed up."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import DataError
from understudy.evaluation import evaluate
from understudy.evaluation.minimal_pairs import (
    PairReport,
    Scorer,
    accuracies,
    group_of,
    predictions,
    with_known_words,
    words_of,
)
from understudy.records import Dropped, Example, Prediction
from understudy.sources import Source, load
from understudy.task import Pairs, Task

TASK = Task.model_validate({"kind": "pretraining"})
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


def pair(good: str, bad: str, paradigm: str = "p", **groups: str) -> Example:
    row = {"sentence_good": good, "sentence_bad": bad, "UID": paradigm, **groups}
    return TASK.pair(row, id=good)


def pairs(right: dict[str, tuple[int, int]], field: str = "syntax") -> list[Example]:
    """Of each paradigm so many pairs, of which a model that likes ``+`` has so many right."""
    return [
        pair(f"a {'+' if n < hits else '-'} {n}", f"b {'-' if n < hits else '+'} {n}", paradigm, field=field)
        for paradigm, (hits, size) in right.items()
        for n in range(size)
    ]


def likes_plus(sentences: Iterable[str]) -> Iterator[float]:
    return (float("+" in sentence) for sentence in sentences)


def likes_minus(sentences: Iterable[str]) -> Iterator[float]:
    return (-score for score in likes_plus(sentences))


def judged(rows: Sequence[Example], *scorers: Scorer, by: Sequence[str] = ("field", "UID")) -> PairReport:
    return accuracies(rows, [list(predictions(rows, scorer)) for scorer in scorers or (likes_plus,)], by)


def test_blimp_is_read_with_its_paradigms_and_groups(tmp_path: Path):
    other = {**BLIMP, "UID": "principle_A_case_2", "linguistics_term": "binding", "field": "syntax/semantics"}
    first, second = load(write(tmp_path / "all.jsonl.gz", [BLIMP, other]), TASK, "test")
    assert first.choices == (BLIMP["sentence_good"], BLIMP["sentence_bad"])
    assert first.input == first.target == BLIMP["sentence_good"]
    assert [group_of(first, column) for column in Pairs().groups] == ["syntax", "island_effects", "adjunct_island"]
    assert group_of(second, "field") == "syntax_semantics"


def test_a_file_without_paradigms_is_one_by_its_name(tmp_path: Path):
    row = {"sentence_good": "What did you get?\nI got a chair.", "sentence_bad": "What did you get?\nI got a teacher."}
    (found,) = load(write(tmp_path / "qa_congruence_easy.jsonl.gz", [row]), TASK, "test")
    assert [group_of(found, column) for column in ("UID", "field")] == ["qa_congruence_easy", ""]
    assert "\n" in found.input


def test_columns_have_the_names_that_are_given(tmp_path: Path):
    path = tmp_path / "own.csv"
    path.write_text('ok,off,kind,length\n"She runs, fast.","She run, fast.",agreement,short\n')
    own = Task.model_validate({"kind": "pretraining", "pairs": {"good": "ok", "bad": "off", "groups": ["length"]}})
    (found,) = load(Source(path=str(path)), own, "test")
    assert found.choices == ("She runs, fast.", "She run, fast.")
    assert group_of(found, "length") == "short"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"sentence_good": "a", "sentence_bat": "b"}, ":2: field 'pairs.bad': there is no column 'sentence_bad'. Did"),
        ({"sentence_good": " ", "sentence_bad": "b"}, ":2: field 'pairs.good': ' ' is no sentence"),
        ({"sentence_good": "a", "sentence_bad": 7}, ":2: field 'pairs.bad': 7 is no sentence"),
    ],
)
def test_a_row_that_is_no_pair_is_a_clear_line(row: dict[str, Any], message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        list(load(write(tmp_path / "all.jsonl.gz", [BLIMP, row]), TASK, "test"))


def test_accuracies_are_over_pairs_and_over_paradigms():
    given = pairs({"many": (60, 80), "few": (5, 20)}) + pairs({"other": (10, 10)}, field="morphology")
    report = judged(given)
    assert {name: one.interval.mean for name, one in report.groups["UID"].items()} == pytest.approx(
        {"many": 0.75, "few": 0.25, "other": 1.0}
    )
    assert report.over_paradigms
    assert (report.overall.pairs, report.over_paradigms.pairs) == (110, 110)
    assert report.overall.interval.mean == pytest.approx(75 / 110)
    assert report.over_paradigms.interval.mean == pytest.approx(2 / 3)
    syntax, morphology = report.groups["field"]["syntax"], report.groups["field"]["morphology"]
    assert (syntax.pairs, syntax.interval.mean) == (100, pytest.approx(0.65))
    assert (morphology.interval.low, morphology.interval.high) == (1.0, 1.0)
    for one in (report.overall, report.over_paradigms, syntax, report.groups["UID"]["few"]):
        assert one.interval.low < one.interval.mean < one.interval.high
        assert one.interval.per_seed == pytest.approx((one.interval.mean,))


def test_a_group_may_cut_through_paradigms_and_paradigms_need_not_be_asked_for():
    given = [pair("+", "-", "a", tense="past"), *[pair("-", "+", "a", tense="present")] * 3]
    given += [pair("+", "-", "b", tense="present"), pair("+ c", "- c", "b")]
    report = judged(given, by=["tense", "UID"])
    assert {name: one.interval.mean for name, one in report.groups["tense"].items()} == {"past": 1.0, "present": 0.25}
    assert report.over_paradigms
    assert report.over_paradigms.interval.mean == pytest.approx((1 / 4 + 1) / 2)
    bare = judged(given, by=["tense", "nowhere"])
    assert (bare.over_paradigms, [*bare.groups]) == (None, ["tense"])


def test_a_tie_counts_wrong_and_is_counted():
    report = judged(pairs({"a": (3, 7), "b": (2, 9)}), lambda sentences: (1.0 for _ in sentences), likes_plus)
    assert report.overall.ties == 16
    assert report.overall.interval.per_seed == pytest.approx((0.0, 5 / 16))


def test_equal_sentences_are_a_tie_as_blimp_has_some():
    report = judged([pair("+", "+"), pair("+", "-")])
    assert (report.overall.ties, report.overall.interval.mean) == (1, 0.5)


def test_answers_read_from_a_file_are_judged_alike():
    given = pairs({"a": (3, 7)})
    kept = [Prediction(one.output or ()) for one in predictions(given, likes_plus)]  # a tie is an empty list there
    assert accuracies(given, [kept], ["UID"]) == judged(given, by=["UID"])
    assert evaluate(lambda rows: predictions(rows, likes_plus), TASK, given) == {"accuracy": pytest.approx(3 / 7)}


def test_intervals_narrow_with_pairs_and_hold_the_binomial_error():
    few, many = (judged(pairs({"a": (n * 7, n * 10)})).overall.interval for n in (10, 1000))
    error = (0.7 * 0.3 / 100) ** 0.5
    assert few.high - few.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert many.high - many.low == pytest.approx((few.high - few.low) / 10, rel=0.15)


def test_a_column_of_many_values_leaves_other_intervals_alone():
    rows = [
        pair(f"a {sign} {n}", f"b {'-' if sign == '+' else '+'} {n}", paradigm, length=str(n % 3), pairID=str(n))
        for paradigm, hits in (("many", 60), ("few", 20))
        for n, sign in enumerate("+" * hits + "-" * (80 - hits))
    ]
    plain, many = judged(rows, by=["length", "UID"]), judged(rows, by=["pairID", "length", "UID"])
    assert (many.overall, many.over_paradigms) == (plain.overall, plain.over_paradigms)
    assert [many.groups[column] for column in ("length", "UID")] == [*plain.groups.values()]
    error = (2 * 0.75 * 0.25 / 80) ** 0.5 / 2  # of the mean of two paradigms, drawn within each
    assert many.over_paradigms
    for found in (many.overall.interval, many.over_paradigms.interval):
        assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert judged(rows, by=["length"]).overall == plain.overall


def test_the_order_of_the_pairs_leaves_no_trace():
    given = pairs({"a": (3, 7), "b": (2, 9)})
    mixed = random.Random(0).sample(given, len(given))
    assert judged(mixed) == judged(given)


def test_seeds_are_drawn_as_pairs_are():
    given = pairs({"a": (90, 100)})
    report = judged(given, likes_plus, likes_plus, likes_minus)
    assert report.overall.pairs == 100
    assert report.overall.interval.per_seed == pytest.approx((0.9, 0.9, 0.1))
    assert report.overall.interval.mean == pytest.approx(1.9 / 3)
    assert report.overall.interval.low < 0.2  # thrice the third seed is among the draws
    with pytest.raises(DataError, match="99 predictions for 100 pairs"):
        accuracies(given, [list(predictions(given[1:], likes_plus))])
    with pytest.raises(DataError, match="nothing to score: 0 pairs"):
        accuracies([], [[]])


def test_pairs_with_words_that_were_never_read_are_dropped_with_the_reason():
    texts = ["The dog doesn't run. The DOG runs.", "A dog doesn’t run; it runs"]
    given = [
        pair("The dog runs.", "The dog run."),
        pair("The dog doesn't run.", "The dog doesn’t runs."),
        pair("The cat runs.", "The cat run."),
        pair("It runs.", "It run."),
    ]
    first, second, *others = with_known_words(given, iter(texts), 2)
    assert [first, second] == given[:2]
    assert [(row.example, row.reason) for row in others if isinstance(row, Dropped)] == [
        (given[2], "unknown_word"), (given[3], "unknown_word"),
    ]  # fmt: skip
    assert [row.detail for row in others if isinstance(row, Dropped)] == [
        "'cat' stands 0 times in the training text, fewer than 2",
        "'it' stands 1 times in the training text, fewer than 2",
    ]
    assert [*with_known_words(given, texts, 1)][3] == given[3]


def test_words_are_compared_without_case_and_signs():
    assert words_of("Well-known O'Brien's “café”, 3 times_over!") == [
        "well-known", "o'brien's", "café", "3", "times", "over",
    ]  # fmt: skip


def test_pairs_are_not_read_before_the_scorer_asks_for_them():
    read: list[str] = []
    stream = (read.append(row.id) or row for row in pairs({"a": (1, 3)}))

    def scorer(sentences: Iterable[str]) -> Iterator[float]:
        for number, sentence in enumerate(sentences):
            assert len(read) == number // 2 + 1
            yield float("+" in sentence)

    assert len(list(predictions(stream, scorer))) == 3


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda sentences: iter(list(likes_plus(sentences))[1:]), "a score a sentence, this one gave fewer"),
        (lambda sentences: iter([*likes_plus(sentences), 0.0]), "a score a sentence, this one gave more"),
        (lambda sentences: (float("nan") for _ in sentences), r"the scores of \('a \+ 0', .* are \[nan, nan\]"),
    ],
)
def test_a_broken_scorer_is_a_clear_line(scorer: Scorer, message: str):
    with pytest.raises(DataError, match=message):
        list(predictions(pairs({"a": (1, 3)}), scorer))
