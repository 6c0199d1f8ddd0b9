"""report.json of a small finished study."""

from __future__ import annotations

from dataclasses import replace

import pytest

from understudy.errors import DataError, RowsLost
from understudy.records import Example, Prediction
from understudy.report import ArmResult, RunResults, StudentUse, TeacherUse, build
from understudy.report.markdown import to_markdown
from understudy.task import Task
from understudy.workspace import Taken

GOLD = ["card", "loan", "card", "branch"] * 10
TEST = [Example(id=f"t/{number}", input="Where to?", target=target) for number, target in enumerate(GOLD)]
TASK = Task(instruction="Where does this\nmessage go?", kind="classification", labels={x: x for x in set(GOLD)})
NOTHING_KNOWN = TeacherUse(requests=300, from_ledger=300, prompt_tokens=None, completion_tokens=None, usd=None)


def predicted(wrong: int) -> dict[int, list[Prediction]]:
    """Two seeds that answer "loan" to the first ``wrong`` rows, one row more in the second seed."""
    return {seed: said(["loan"] * (wrong + seed) + GOLD[wrong + seed :]) for seed in (0, 1)}


def said(answers: list[str]) -> list[Prediction]:
    return [Prediction(answer) for answer in answers]


def arm(name: str, *chain: str, wrong: int = 4, gold_rows: int = 60, **changes: object) -> ArmResult:
    plain = ArmResult(
        name=name,
        chain=chain,
        steps=[Taken(name=chain[0], rows_in=gold_rows, kept=gold_rows)],
        students={
            seed: StudentUse(steps=200, tokens=1000 + seed, seconds=3.0 + seed, parameters=22) for seed in (0, 1)
        },
        predictions=predicted(wrong),
        gold_rows=gold_rows,
        training_rows=gold_rows,
    )
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType]


ANSWERS = arm(
    "answers",
    "answers",
    wrong=2,
    steps=[Taken(name="answers", rows_in=360, kept=345, dropped={"not_a_label": 12, "in_test_split": 3})],
    teacher=NOTHING_KNOWN,
    training_rows=345,
)


def study(*arms: ArmResult, **changes: object) -> RunResults:
    plain = RunResults(study="routing", task=TASK, test=TEST, arms=arms, versions={"torch": "2", "a": "1"})
    return replace(plain, **changes)  # pyright: ignore[reportArgumentType]


def test_the_report_holds_what_the_contract_says():
    report = build(study(arm("gold", "gold"), ANSWERS))
    assert list(report) == ["study", "versions", "arms", "comparisons", "notes"]
    assert report["study"]["seeds"] == [0, 1]
    assert report["study"]["test_rows"] == 40
    found = report["arms"]["answers"]
    assert found["rows"] == {
        "in": 360,
        "made": 0,
        "kept": 345,
        "joined": 0,
        "dropped": {"in_test_split": 3, "not_a_label": 12},
    }
    assert found["steps"] == [{"name": "answers", **found["rows"]}]
    assert found["student"] == {"steps": 200, "tokens": 1000, "seconds": 3.5, "parameters": 22}
    assert found["teacher"] == {
        "requests": 300,
        "from_ledger": 300,
        "prompt_tokens": None,
        "completion_tokens": None,
        "usd": None,
    }
    accuracy = found["metrics"]["accuracy"]
    assert accuracy["per_seed"] == [0.975, 0.95]  # the second row is a loan
    assert accuracy["mean"] == 0.9625
    assert accuracy["low"] < accuracy["mean"] <= accuracy["high"]
    assert accuracy["chance"] == 0.5
    assert (accuracy["at_chance"], accuracy["below_chance"]) == (False, False)


def test_a_comparison_is_the_later_arm_less_the_earlier_one():
    report = build(study(arm("gold", "gold"), ANSWERS))
    assert [(c["metric"], c["a"], c["b"]) for c in report["comparisons"]] == [
        ("accuracy", "answers", "gold"),
        ("macro_f1", "answers", "gold"),
    ]
    first = report["comparisons"][0]
    assert list(first) == ["metric", "a", "b", "difference", "low", "high", "p"]
    assert first["difference"] == 0.05
    assert 0 <= first["low"] <= first["difference"] <= first["high"]


def test_up_to_six_arms_every_pair_is_compared_and_beyond_only_with_the_first():
    six = [arm("gold", "gold"), *(arm(f"arm {i}", "answers") for i in range(5))]
    accuracy = [c for c in build(study(*six))["comparisons"] if c["metric"] == "accuracy"]
    assert len(accuracy) == 15
    report = build(study(*six, arm("last", "answers")))
    accuracy = [c for c in report["comparisons"] if c["metric"] == "accuracy"]
    assert [c["b"] for c in accuracy] == ["gold"] * 6
    assert "More than 6 arms: each is compared with gold only." in report["notes"]
    twice = [arm(f"{i}@{entry}", "gold", equal=entry) for entry in ("steps", "tokens") for i in range(4)]
    assert not [note for note in build(study(*twice))["notes"] if note.startswith("More than 6")]
    twice += [arm(f"{i}@{entry}", "gold", equal=entry) for entry in ("steps", "tokens") for i in range(4, 7)]
    assert "More than 6 arms: each is compared with 0@steps or 0@tokens only." in build(study(*twice))["notes"]


def test_how_diverse_an_arms_rows_are_stands_with_it():
    figures = {"unique": 1.0, "distinct_1": 0.5, "distinct_2": 0.7, "nearest": None, "datasets": {"data/train": 1.0}}
    arms = build(study(arm("gold", "gold"), replace(ANSWERS, diversity=figures)))["arms"]
    assert arms["answers"]["diversity"] == figures
    assert "diversity" not in arms["gold"]


def test_rows_of_a_chain_are_the_sum_of_its_steps():
    steps = [
        Taken(name="answers", rows_in=100, kept=90, dropped={"not_a_label": 10}),
        Taken(name="direct", rows_in=90, made=50, kept=120, joined=5, dropped={"duplicate": 14, "not_a_label": 1}),
    ]
    rows = build(study(arm("both", "answers", "direct", steps=steps)))["arms"]["both"]["rows"]
    assert rows == {"in": 100, "made": 50, "kept": 120, "joined": 5, "dropped": {"duplicate": 14, "not_a_label": 11}}


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([Taken(name="answers", rows_in=100, kept=99)], "step 'answers': 100 in"),
        ([Taken(name="a", rows_in=9, kept=9), Taken(name="b", rows_in=8, kept=8)], "all steps: 9 in"),
    ],
)
def test_a_row_that_went_missing_is_an_error(steps: list[Taken], where: str):
    with pytest.raises(RowsLost, match=where):
        build(study(arm("answers", "answers", steps=steps)))


def test_label_saving_stands_in_the_report_with_gold_arms_of_two_sizes():
    ceiling = arm("ceiling", "gold", wrong=0, gold_rows=240)
    other = arm("other student", "answers", wrong=1, overrides=["student"])
    report = build(study(arm("gold", "gold"), ANSWERS, ceiling, other))
    assert list(report["label_saving"]) == ["answers"]
    saved = report["label_saving"]["answers"]
    assert (saved["metric"], saved["relation"], saved["gold_rows"]) == ("accuracy", "=", 60)
    assert 60 < saved["rows"] < 240
    assert saved["text"].startswith(f"as {saved['rows']} gold rows (")
    assert "other student: sets its own student, so a difference to other arms may come from that." in report["notes"]


def test_a_student_that_went_on_from_another_arm_is_no_gold_only_one():
    later = arm("later", "gold", wrong=0, gold_rows=240, continues="answers")
    report = build(study(arm("gold", "gold"), ANSWERS, later))
    assert "label_saving" not in report
    assert "later: goes on from answers, so it learnt that arm's rows too, before its own." in report["notes"]


def test_label_saving_compares_arms_of_one_entry_of_equal_only():
    arms = [
        arm("gold@steps", "gold", equal="steps"),
        arm("gold@tokens", "gold", equal="tokens", gold_rows=240),
        arm("answers@steps", "answers", equal="steps"),
    ]
    assert "label_saving" not in build(study(*arms))


def test_what_a_reader_should_know_stands_in_the_notes():
    guess = arm("guess", "gold", predictions={0: said(["card"] * 40)})
    one = [replace(a, predictions={0: a.predictions[0]}) for a in (replace(ANSWERS, notes=["labels were recorded."]),)]
    report = build(
        study(guess, *one, notes=["The data were written for this demo.", "The data were written for this demo."])
    )
    assert report["arms"]["guess"]["metrics"]["accuracy"]["at_chance"] is True
    assert report["notes"] == [
        "The data were written for this demo.",
        "answers: labels were recorded.",
        "answers: the money is not known, because the teacher's price is not set.",
        "guess: accuracy is at chance: not shown to be above 0.500, which the best answer that is the same for every "
        "test row reaches.",
        "guess: macro_f1 is at chance: not shown to be above 0.222, which the best answer that is the same for every "
        "test row reaches.",
        "One seed: the intervals do not know how much training itself varies.",
    ]


def test_a_score_whose_interval_lies_under_chance_is_below_it_not_at_it():
    worse = ["loan" if target != "loan" else "card" for target in GOLD]
    report = build(study(arm("worse", "gold", predictions=dict.fromkeys((0, 1), said(worse))), ANSWERS))
    accuracy = report["arms"]["worse"]["metrics"]["accuracy"]
    assert (accuracy["high"], accuracy["at_chance"], accuracy["below_chance"]) == (0, False, True)
    assert any(note.startswith("worse: accuracy is below chance: shown to be under 0.500") for note in report["notes"])
    assert "[.000, .000] below chance" in to_markdown(report)


def test_a_choice_is_measured_against_a_guess_among_the_options_of_each_row():
    fields = {"input": "q", "target": "a", "choices": "c"}
    task = Task.model_validate({"instruction": "Which?", "kind": "choice", "fields": fields})
    test = [row.replace(choices=("loan", "card", "branch", "transfer")) for row in TEST]
    report = build(study(arm("guess", "gold", wrong=36), arm("learnt", "gold"), task=task, test=test))
    assert report["arms"]["guess"]["metrics"]["accuracy"]["chance"] == 0.25
    assert [report["arms"][name]["metrics"]["accuracy"]["at_chance"] for name in ("guess", "learnt")] == [True, False]
    assert report["notes"] == [
        "guess: accuracy is at chance: not shown to be above 0.250, which a guess among each test row's choices "
        "reaches."
    ]


def test_scores_of_texts_stand_in_the_report_without_a_chance_level():
    report = build(study(arm("gold", "gold"), task=Task(instruction="Say it.", kind="generation")))
    found = report["arms"]["gold"]["metrics"]
    assert list(found) == ["rouge_l", "chrf"]
    assert (found["chrf"]["chance"], found["chrf"]["at_chance"]) == (None, False)
    assert "ROUGE-L" in to_markdown(report)


def test_arms_without_the_same_seeds_are_refused():
    short = arm("answers", "answers", predictions={0: said(GOLD)})
    with pytest.raises(DataError, match=r"arm 'answers' was predicted with seeds \[0\], arm 'gold' with \[0, 1\]"):
        build(study(arm("gold", "gold"), short))
    with pytest.raises(DataError, match="no arm"):
        build(study())
