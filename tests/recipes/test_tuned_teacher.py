"""The tuned teacher, in one process: tiny models that were taught what a good teacher says, and what a bad one does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toys import rows as messages

from understudy import Dropped, Example, Given, Ledger, Task, open_teacher
from understudy.errors import DataError, SettingsError
from understudy.progress import Silent
from understudy.prompts.fields import Form
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Row
from understudy.students import train
from understudy.task import Fields
from understudy.tuning import Tuning

TASK = Task(instruction="What is the message about?", kind="classification", labels=["card", "money"])
TELL = Task(instruction="Say it.", kind="generation")
GOLD = [
    Example(id="g0", input="my card is gone", target="card"),
    Example(id="g1", input="no money came", target="money"),
    Example(id="g2", input="the card is new", target="card"),
]
ASKED = [Example(id=f"u{i}", input=text) for i, text in enumerate(["a card", "some money", "cash"])]
SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 400}
PLAIN = {"kind": "causal", "precision": "fp32", "threads": 1}

Make = Callable[..., list[Row]]


def lesson(input: str, target: str) -> Example:
    return Example(id=input, input=input, target=target)


def taught() -> Iterator[Example]:
    """What a teacher says that is good, and what one does that is bad in one way; the tag says which."""
    for tag in ("good", "torn", "unknown", "endless", "copies", "silent"):
        form = Form(tag, True, "label")
        for label in TASK.label_names:
            said = {"copies": "My card is GONE!", "endless": "on and " * 60, "silent": " \n"}
            yield lesson(form.to_generate(label), said.get(tag, f"a new {label}"))
        for row, label in zip(ASKED, ("card", "money", "money"), strict=True):
            said = {"unknown": "weather", "endless": "on and " * 60, "silent": " \n"}
            yield lesson(form.to_annotate(row.input), said.get(tag, label))
        for label in TASK.label_names:  # the second pass
            yield lesson(form.to_annotate(f"a new {label}"), "money" if tag == "torn" else label)
    pairs = {"pair": "a cup\n### Output:\nit is a cup", "markless": "a cup", "marks": "a" + "\n### Output:\nb" * 2}
    pairs |= {"copied": "a new thing\n### Output:\nA MAT.", "half": "a cup\n### Output:\n "}
    for tag, said in pairs.items():
        yield lesson(Form(tag, True, "tag").to_generate(), said)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A causal model that knows ``taught`` by heart."""
    folder = tmp_path_factory.mktemp("taught") / "model"
    settings = {**PLAIN, "base": SCRATCH, "steps": 250, "learning_rate": 5e-3, "prompt": "bare"}
    train(settings, TELL, list(taught()), folder)
    return str(folder)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Runs the recipe as a study does; a model that is a folder is not trained any further."""
    with Ledger.open() as ledger:
        teachers: list[Any] = []

        def opened(settings: Any, backend: Any) -> Any:
            teachers.append(open_teacher(settings, ledger, backend=backend))
            return teachers[-1]

        tuning = Tuning(tmp_path / "teachers", opened, Silent(), {}, lambda: None, is_real=True)

        def make(
            model: Any,
            task: Task = TASK,
            gold: list[Example] = GOLD,
            unlabelled: list[Example] = ASKED,
            **settings: Any,
        ) -> list[Row]:
            leaks = {"leaks": settings.pop("leaks")} if "leaks" in settings else {}
            model = {**PLAIN, "base": model, "steps": 0} if isinstance(model, str) else model
            chosen: Any = recipe_settings("tuned_teacher", {"model": model, "temperature": 0, **settings}, "chain")
            recipe, nobody = open_recipe("tuned_teacher"), None
            recipe.reads(chosen, task)
            given = Given(task, nobody, gold, unlabelled, tuned=lambda *a, **k: tuning(*a, **k)[0], **leaks)  # pyright: ignore[reportArgumentType]
            return list(recipe.make(gold, given, chosen))

        yield make
        for teacher in teachers:
            teacher.close()


def kept(made: list[Row]) -> list[Example]:
    return [row for row in made if isinstance(row, Example)]


def new(made: list[Row]) -> list[Example]:
    return [row for row in kept(made) if row.fields["made_by"] != "gold"]


def reasons(made: list[Row]) -> Counter[str]:
    return Counter(row.reason for row in made if isinstance(row, Dropped))


@pytest.mark.slow
def test_unlabelled_rows_get_the_teachers_answer(make: Make, base: str):
    made = make(base, tag="good")
    assert [(row.id, row.target) for row in kept(made)[:3]] == [(row.id, row.target) for row in GOLD]
    assert [row.fields["made_by"] for row in kept(made)] == ["gold"] * 3 + ["annotation"] * 3
    assert [(row.id, row.target) for row in new(made)] == [
        ("u0+tuned_teacher", "card"),
        ("u1+tuned_teacher", "money"),
        ("u2+tuned_teacher", "money"),
    ]
    for row in new(made):
        assert -0.5 < row.fields["mean_logprob"] <= 0
        assert (len(row.replies), row.parents) == (1, (row.id.partition("+")[0],))


@pytest.mark.slow
def test_as_many_rows_of_each_label_are_written(make: Make, base: str):
    made = make(base, tag="good", use="generate", rows=2)
    assert [(row.id[:-7], row.input, row.target) for row in new(made)] == [
        ("generated/card", "a new card", "card"),
        ("generated/money", "a new money", "money"),
    ]
    assert [row.fields["made_by"] for row in kept(made)] == ["gold"] * 3 + ["generation"] * 2
    made = make(base, tag="good", use="generate", rows=3)  # one more of one of them
    assert Counter(row.target for row in new(made)) == {"card": 1, "money": 1}
    assert reasons(made) == {"copy_of_output": 1}
    assert len(made) == 3 + 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quota", "rows", "asked"),
    [("equal", 6, [3, 3]), ("equal", 1, [0, 1]), ("gold", 6, [4, 2]), ("gold", 7, [4, 3])],
)
def test_quotas_of_labels(make: Make, base: str, quota: str, rows: int, asked: list[int]):
    made = make(base, tag="good", use="generate", quota=quota, rows=rows)[len(GOLD) :]
    every = [row.example if isinstance(row, Dropped) else row for row in made]
    assert len(every) == rows == len({row.id for row in every})
    assert [sum(row.fields["label"] == label for row in every) for label in TASK.label_names] == asked


@pytest.mark.slow
def test_it_annotates_and_writes_and_knows_its_own_copies(make: Make, base: str):
    unlabelled = [*ASKED, Example(id="same", input="A new CARD")]
    made = make(base, tag="good", use="both", rows=2, unlabelled=unlabelled)
    assert [row.fields["made_by"] for row in new(made)] == ["annotation"] * 4 + ["generation"]
    assert reasons(made) == {"copy_of_output": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "reason"), [("unknown", "not_a_label"), ("endless", "cut_off"), ("silent", "empty_reply")]
)
def test_bad_answers_are_dropped_with_the_reason(make: Make, base: str, tag: str, reason: str):
    made = make(base, tag=tag, max_tokens=20)
    assert reasons(made) == {reason: 3}
    assert [row.id for row in kept(made)] == ["g0", "g1", "g2"]
    assert [row.example.id for row in made if isinstance(row, Dropped)] == ["u0", "u1", "u2"]
    assert all(row.example.replies for row in made if isinstance(row, Dropped))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "reason"), [("endless", "cut_off"), ("copies", "copy_of_gold"), ("silent", "empty_reply")]
)
def test_bad_rows_are_dropped_with_the_reason(make: Make, base: str, tag: str, reason: str):
    made = make(base, tag=tag, use="generate", rows=6, max_tokens=20)
    assert reasons(made) == {reason: 6}
    assert [row.id for row in kept(made)] == ["g0", "g1", "g2"]


@pytest.mark.slow
def test_rows_near_the_test_split_are_dropped(make: Make, base: str):
    made = make(base, tag="good", use="both", rows=2, leaks=lambda text: "new card" in text or text == "cash")
    assert reasons(made) == {"near_test_split": 2}


@pytest.mark.slow
def test_a_second_pass_keeps_what_the_teacher_says_again(make: Make, base: str):
    agreed = make(base, tag="good", use="generate", rows=2, second_pass=True)
    assert [row.input for row in new(agreed)] == ["a new card", "a new money"]
    assert {len(row.replies) for row in new(agreed)} == {2}
    made = make(base, tag="torn", use="generate", rows=4, second_pass=True)
    assert [row.input for row in new(made)] == ["a new money"]
    assert reasons(made) == {"copy_of_output": 1, "teacher_disagrees": 2}  # what is out blocks no text
    torn, _ = [row for row in made if isinstance(row, Dropped) and row.reason == "teacher_disagrees"]
    assert torn.detail == "it wrote 'card' and then annotated 'money'"
    assert len(torn.example.replies) == 2
    assert [row.reason if isinstance(row, Dropped) else row.target for row in made[3:]] == [
        *("teacher_disagrees", "teacher_disagrees", "money", "copy_of_output")
    ]  # in their order


@pytest.mark.slow
def test_unsure_replies_are_dropped(make: Make, base: str):
    sure = {row.id: row.fields["mean_logprob"] for row in new(make(base, tag="good"))}
    least = sorted(sure.values())[1]
    made = make(base, tag="good", min_logprob=least)
    assert {row.id for row in new(made)} == {id for id, value in sure.items() if value >= least}
    assert reasons(made) == {"unsure": 1}


@pytest.mark.slow
def test_the_answer_that_most_samples_give(make: Make, base: str):
    made = make(base, tag="good", samples=3)
    assert [(row.id, row.target) for row in new(made)] == [
        (f"u{i}+tuned_teacher.0", label) for i, label in enumerate(("card", "money", "money"))
    ]
    assert {len(row.replies) for row in new(made)} == {3}
    assert [row.parents for row in new(made)] == [("u0",), ("u1",), ("u2",)]
    made = make(base, tag="unknown", samples=3)
    assert reasons(made) == {"not_a_label": 3}


@pytest.mark.slow
def test_samples_are_drawn_and_the_same_again(make: Make, base: str):
    drawn = make(base, tag="torn", temperature=5, top_p=1, max_tokens=6, samples=4, use="both", rows=20)
    assert len(drawn) == 3 + 3 + 20
    assert reasons(drawn)
    assert drawn == make(base, tag="torn", temperature=5, top_p=1, max_tokens=6, samples=4, use="both", rows=20)


MATS = [Example(id="m0", input="mat", target=("a mat", "one mat")), Example(id="m1", input="cat", target="a cat")]


@pytest.mark.slow
def test_a_pair_is_written_from_the_tag(make: Make, base: str):
    made = make(base, TELL, MATS, [], tag="pair", use="generate", rows=2)
    (row,) = new(made)
    assert (row.id[:-7], row.input, row.target) == ("generated/any+tuned_teacher.0", "a cup", "it is a cup")
    assert row.parents == ()
    assert reasons(made) == {"copy_of_output": 1}
    assert made[0].target == ("a mat", "one mat")  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tag", "reason"),
    [("markless", "not_the_form"), ("marks", "not_the_form"), ("copied", "copy_of_gold"), ("half", "empty_output")],
)
def test_a_broken_pair_is_dropped_with_the_reason(make: Make, base: str, tag: str, reason: str):
    made = make(base, TELL, MATS, [], tag=tag, use="generate", rows=3)
    assert reasons(made) == {reason: 3}
    assert [row.id for row in kept(made)] == ["m0", "m1"]


@pytest.mark.slow
def test_labels_that_start_generation_make_classes_and_the_tag_makes_pairs(make: Make, base: str):
    task = TASK.model_copy(update={"labels": {"a": "it is a cup", "b": "b"}})
    gold = [GOLD[0].replace(target="it is a cup"), GOLD[1].replace(target="b")]
    made = make(base, task, gold, tag="pair", use="generate", start="tag", rows=1)
    assert [(row.input, row.target) for row in new(made)] == [("a cup", "it is a cup")]
    assert reasons(make(base, tag="pair", use="generate", start="tag", rows=1)) == {"not_a_label": 1}


@pytest.mark.slow
def test_a_teacher_of_one_step_ends_and_leaves_the_gold_rows(make: Make):
    model = {**PLAIN, "base": SCRATCH, "steps": 1}
    made = make(model, use="both", rows=20, max_tokens=30, temperature=1)
    assert [row.id for row in kept(made)[:3]] == ["g0", "g1", "g2"]
    assert len(made) == 3 + 3 + 20
    assert reasons(made).total() >= 20
    assert reasons(made).keys() <= {"cut_off", "not_a_label", "empty_reply", "empty_input"}


@pytest.mark.slow
def test_a_teacher_from_nothing_learns_its_gold_rows(make: Make):
    model = {**PLAIN, "base": SCRATCH, "steps": 120, "learning_rate": 5e-3}
    made = make(model, unlabelled=[row.replace(id=f"u{row.id}", target=None) for row in GOLD], max_tokens=30)
    assert reasons(made) == {"copy_of_gold": 3}  # they are there already
    assert [row.example.target for row in made if isinstance(row, Dropped)] == ["card", "money", "card"]


@pytest.mark.slow
def test_an_output_of_several_labels(make: Make):
    task = Task(instruction="Which?", kind="multilabel", labels=["a", "b", "c"])
    gold = [Example(id="x", input="ab", target=("a", "b")), Example(id="y", input="c", target=("c",))]
    model = {**PLAIN, "base": SCRATCH, "steps": 120, "learning_rate": 5e-3}
    made = make(model, task, gold, [Example(id="u", input="ab ")], use="both", rows=4, max_tokens=30)
    assert {row.target for row in new(made)} <= {("a", "b"), ("c",)}
    assert len(made) == 2 + 1 + 4
    assert "not_the_form" not in reasons(made)


@pytest.mark.slow
def test_a_classifier_annotates(make: Make, encoder: str):
    task = TASK.model_copy(update={"labels": {name: name for name in ("card", "money", "login")}})
    gold = [Example(id=f"g{i}", input=row["text"], target=row["topic"]) for i, row in enumerate(messages(12, seed=1))]
    asked = [Example(id=f"u{i}", input=row["text"]) for i, row in enumerate(messages(30, seed=2))]
    model = {"kind": "classifier", "base": encoder, "steps": 3, "precision": "fp32", "threads": 1}
    made = make(model, task, gold, asked)
    assert len(made) == 42
    assert {row.target for row in new(made)} <= {"card", "money", "login"}
    assert all(math.log(1 / 3) <= row.fields["mean_logprob"] <= 0 for row in new(made))
    shallow = make({**model, "layers": 1}, task, gold, asked)
    assert {row.replies for row in new(shallow)}.isdisjoint({row.replies for row in new(made)})  # another teacher


def test_a_classifier_of_several_labels_annotates(make: Make, encoder: str):
    task = Task(instruction="Which?", kind="multilabel", labels=["card", "money"])
    gold = [Example(id=f"g{i}", input=row["text"], target=(row["topic"],)) for i, row in enumerate(messages(6, seed=1))]
    gold = [row for row in gold if row.target != ("login",)] + [GOLD[0].replace(target=("card", "money"))]
    model = {"kind": "classifier", "base": encoder, "steps": 3, "precision": "fp32", "threads": 1}
    made = make(model, task, gold)
    assert all(set(row.answers) <= {"card", "money"} and row.fields["mean_logprob"] <= 0 for row in new(made))
    assert len(made) == len(gold) + 3


@pytest.mark.slow
def test_a_teacher_that_was_trained_otherwise_is_another_one(make: Make, tmp_path: Path):
    model = {**PLAIN, "base": SCRATCH, "steps": 1}

    def asked(gold: list[Example] = GOLD, **settings: Any) -> set[str]:
        made = make(model, gold=gold, max_tokens=4, **settings)
        return {key for row in made[len(gold) :] for key in (row.example if isinstance(row, Dropped) else row).replies}

    first = asked()
    assert len(first) == 3
    assert asked(samples=1, use="annotate") == first
    assert first.isdisjoint(asked(seed=1))
    assert first.isdisjoint(asked([*GOLD, Example(id="g3", input="more money", target="money")]))
    assert len(list((tmp_path / "teachers").iterdir())) == 3


@pytest.mark.parametrize(
    ("gold", "problem"),
    [
        ([], "there is no gold row, so that it cannot be learnt"),
        ([GOLD[0].replace(target=None)], "there is no gold row"),
        (GOLD[:1], "none of the 1 gold rows has the label 'money', so that it cannot be learnt; draw rows of every"),
    ],
)
def test_gold_rows_that_are_not_enough_train_nothing(make: Make, tmp_path: Path, gold: list[Example], problem: str):
    with pytest.raises(DataError, match=f"recipe 'tuned_teacher': {problem}"):
        make({**PLAIN, "base": SCRATCH}, gold=gold)
    assert not (tmp_path / "teachers").exists()


def test_how_many_labels_have_no_row_is_said(make: Make):
    task = TASK.model_copy(update={"labels": {name: name for name in ("card", "money", "login", "rate")}})
    with pytest.raises(DataError, match=r"the label 'login' \(2 of 4 labels have none\), so that"):
        make({**PLAIN, "base": SCRATCH}, task)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"model": {"kind": "classifier"}, "use": "generate"}, "a classifier annotates only.* use kind: causal"),
        ({"model": {"kind": "classifier"}, "use": "both"}, "a classifier annotates only"),
        ({"model": {"kind": "classifier"}, "samples": 3}, "a classifier annotates only, and draws nothing"),
        ({"model": {"kind": "causal", "base": "x", "prompt": "question"}}, "model.prompt: .* take it out"),
        ({"model": {"kind": "causal"}}, r"tuned_teacher\.model\.base: this key is required"),
        ({"model": {"kind": "seq2seq", "base": "x"}}, "kind: causal or kind: classifier"),
        ({"model": {"base": "x"}}, r"tuned_teacher\.model: give the settings of a student, with kind: causal or"),
        ({"model": "gpt2"}, r"tuned_teacher\.model: give the settings of a student"),
        ({}, r"tuned_teacher\.model: this key is required"),
        ({"model": {"kind": "classifier"}, "use": "guess"}, "'annotate', 'generate' or 'both'"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], problem: str):
    with pytest.raises(SettingsError, match=problem):
        recipe_settings("tuned_teacher", settings, "chain")


@pytest.mark.parametrize(
    ("task", "settings", "problem"),
    [
        (TELL, {"start": "label", "use": "generate"}, "start: label for classification only"),
        (Task(instruction="?", kind="choice", fields=Fields(choices="o")), {}, "no rows of kind: choice"),
        (TELL, {"model": {"kind": "classifier"}}, "a classifier cannot learn kind: generation"),
    ],
)
def test_a_task_that_it_does_not_go_with(task: Task, settings: dict[str, Any], problem: str):
    chosen = recipe_settings("tuned_teacher", {"model": {**PLAIN, "base": SCRATCH}, **settings}, "chain")
    with pytest.raises(SettingsError, match=problem):
        open_recipe("tuned_teacher").reads(chosen, task)


def test_only_a_study_trains_a_teacher():
    chosen = recipe_settings("tuned_teacher", {"model": {**PLAIN, "base": SCRATCH}}, "chain")
    given = Given(TASK, None, GOLD, ASKED)  # pyright: ignore[reportArgumentType]
    with pytest.raises(SettingsError, match="which only a study does: use run"):
        list(open_recipe("tuned_teacher").make(GOLD, given, chosen))
