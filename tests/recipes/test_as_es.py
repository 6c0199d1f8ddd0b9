"""AS-ES: reasoning becomes segments, students learn them, and write them in turns."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from toys import write_jsonl

from understudy import Dropped, Example, Given, Task, run
from understudy.errors import DataError, SettingsError
from understudy.plans import Plan
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Prediction, Row
from understudy.study_file import load_study
from understudy.task import Fields
from understudy.workspace import Rows

SUMS = Task(instruction="Solve it.", kind="numeric")
EGGS = Example(
    id="eggs",
    input="Ann has 3 eggs. Tom gives her 2 more. How many eggs has Ann?",
    target="5",
    rationale="Ann has 3 eggs. Tom gives her 2 more. So that makes 3 + 2 = 5 eggs.",
)
PROMPT = f"Q: {EGGS.input}\nA:"


def made(*rows: Example, task: Task = SUMS, **settings: Any) -> list[Row]:
    recipe, chosen = open_recipe("as_es"), recipe_settings("as_es", {"score": "location", **settings}, "chain")
    given = Given(task, None, rows, ())  # pyright: ignore[reportArgumentType]
    return list(recipe.make(rows, given, chosen))


def lessons(*rows: Example, task: Task = SUMS, **settings: Any) -> list[Example]:
    return [row for row in made(*rows, task=task, **settings) if isinstance(row, Example)]


def parts(*rows: Example, **settings: Any) -> list[tuple[str, str]]:
    return [(row.fields["part"], str(row.target)) for row in lessons(*rows, **settings)]


def text_of(row: Example, task: Task = SUMS, **settings: Any) -> str:
    (whole,) = lessons(row, task=task, **{"path": "plain", **settings})
    return str(whole.target)


def test_each_segment_is_learnt_after_the_question_and_all_before_it():
    rows = lessons(EGGS)
    assert [(row.id, row.input, row.target, row.fields["part"]) for row in rows] == [
        ("eggs+as_es.0", PROMPT, " Ann has 3 eggs.", "es"),
        ("eggs+as_es.1", f"{PROMPT} Ann has 3 eggs.", " Tom gives her 2 more.", "as"),
        ("eggs+as_es.2", f"{PROMPT} Ann has 3 eggs. Tom gives her 2 more.", " So that makes 3 + 2 = 5 eggs.", "es"),
        (
            "eggs+as_es.3",
            f"{PROMPT} Ann has 3 eggs. Tom gives her 2 more. So that makes 3 + 2 = 5 eggs.",
            " The answer is 5.",
            "as",
        ),
    ]
    assert {row.parents for row in rows} == {("eggs",)}
    assert rows[0].fields["question"] == EGGS.input
    assert rows[1].fields["pieces"] == [{"text": "Tom gives her 2 more. ", "score": 1.0, "ratio": 2.0, "tag": "as"}]


def test_on_the_plain_path_the_whole_text_is_one_lesson():
    (row,) = lessons(EGGS, path="plain")
    assert (row.input, row.target) == (PROMPT, f" {EGGS.rationale} The answer is 5.")


def test_neighbours_of_one_tag_are_one_segment():
    together = parts(EGGS, beta=3)  # no place scores so high
    assert together == [("es", f" {EGGS.rationale} The answer is 5.")]
    assert len(parts(EGGS, beta=3, merge=False)) == 4
    assert [tag for tag, _ in parts(EGGS, reverse=True)] == ["as", "es", "as", "es"]


def test_pieces_like_the_question_are_found_by_their_words():
    tags = [tag for tag, _ in parts(EGGS, score="rouge_l", beta=1, reverse=True)]
    assert tags == ["es", "as"]  # the facts, then the sum and the answer
    assert parts(EGGS, score="bleu", beta=1)[0][0] == "as"  # the published direction


def test_the_control_deals_out_the_same_tags():
    rows = [EGGS.replace(id=f"eggs{number}") for number in range(40)]
    dealt = [piece["tag"] for row in lessons(*rows, shuffled=True) for piece in row.fields["pieces"]]
    assert Counter(dealt) == {"es": 80, "as": 80}
    assert dealt != ["es", "as"] * 80
    assert parts(*rows, shuffled=True) == parts(*rows, shuffled=True)


@pytest.mark.parametrize(
    ("rationale", "ends"),
    [
        ("It is 5. So the answer is 5.", " It is 5. So the answer is 5."),
        ("The answer is not easy. It is 5.", " The answer is not easy. It is 5. The answer is 5."),
        ("It is 1,000 or 5 ", " It is 1,000 or 5. The answer is 5."),
    ],
)
def test_the_answer_is_added_where_reasoning_does_not_end_in_it(rationale: str, ends: str):
    assert text_of(EGGS.replace(rationale=rationale)) == ends


def test_an_option_is_named_by_its_letter_and_labels_as_they_are():
    fields = Fields(choices="choices")
    bird = Example(id="b", input="What?", target="a bird", choices=("a fish", "a bird"), rationale="It has wings.")
    assert text_of(bird, Task(instruction="-", kind="choice", fields=fields)) == " It has wings. The answer is (B)."
    both = Example(id="m", input="?", target=("red", "blue"), rationale="It is both.")
    labels = Task(instruction="-", kind="multilabel", labels=["red", "blue", "green"])
    assert text_of(both, labels) == " It is both. The answer is red, blue."


def test_a_text_may_end_by_a_pattern_or_a_learnt_tag():
    marked = EGGS.replace(rationale="3 + 2 = 5\n#### 5")
    assert text_of(marked, ends="pattern", pattern=r"#### -?\d", phrase="####") == " 3 + 2 = 5\n#### 5"
    assert text_of(EGGS, ends="pattern", pattern=r"#### -?\d", phrase="####") == f" {EGGS.rationale} #### 5."
    assert text_of(EGGS, ends="tag").endswith(" The answer is 5. [END]")
    report = Example(id="r", input="Doctor: what hurts?", target="The knee hurts. No fever.")
    told = lessons(report, task=Task(instruction="-", kind="generation"), of="target", ends="tag")
    assert "".join(str(row.target) for row in told) == " The knee hurts. No fever. [END]"


@pytest.mark.slow
def test_no_row_is_lost_however_odd_its_reasoning():
    odd = {
        "none": None,
        "blank": " \n ",
        "one": "Five.",
        "signs": "... , , ;",
        "endless": "Ann has 3 eggs, and then 2 more. " * 1_500,
        "commas": "," * 10_000,
        "breaks": "\n\n3 eggs\n\n\n2 more\n",
        "chinese": "安有三个鸡蛋，汤姆又给了她两个。一共是五个。",
    }
    rows = [EGGS.replace(id=name, rationale=text) for name, text in odd.items()]
    settings: dict[str, Any]
    for settings in ({}, {"short": "drop"}, {"short": "keep", "merge": False}, {"path": "plain"}, {"score": "rouge_l"}):
        found = made(*rows, **settings)
        dropped = {row.example.id: row.reason for row in found if isinstance(row, Dropped)}
        assert dropped == {"none": "no_rationale", "blank": "no_rationale"}
        kept = [row for row in found if isinstance(row, Example)]
        assert {row.parents[0] for row in kept} == odd.keys() - dropped.keys()
        assert all(str(row.target).strip() for row in kept)
        last = {row.parents[0]: str(row.target) for row in kept}
        assert all(text.endswith("The answer is 5.") for text in last.values())


@pytest.mark.parametrize("short", ["merge", "drop", "keep"])
def test_the_tag_is_learnt_whatever_becomes_of_short_pieces(short: str):
    told = Task(instruction="-", kind="generation")
    texts = {"long": "The knee has hurt for three days, and so does the back.", "short": "No fever."}
    rows = [Example(id=name, input="What hurts?", target=text) for name, text in texts.items()]
    found = made(*rows, task=told, of="target", ends="tag", short=short)
    dropped = {row.example.id: row.reason for row in found if isinstance(row, Dropped)}
    assert dropped == ({"short": "no_pieces"} if short == "drop" else {})
    last = {row.parents[0]: str(row.target) for row in found if isinstance(row, Example)}
    assert last.keys() == texts.keys() - dropped.keys()
    assert all(text.endswith(" [END]") and text != " [END]" for text in last.values())


def test_what_was_written_is_read_as_the_task_has_it():
    class Says:
        truncated = 0

        def __init__(self, text: str) -> None:
            self.text = text

        def predict(self, inputs: Any) -> Any:
            return (Prediction(self.text) for _ in inputs)

    def answer(said: str, task: Task, row: Example = EGGS, **settings: Any) -> Prediction:
        return next(plan_of({"path": "plain", **settings}, task).answer({"": Says(said)}, [row]))

    birds = EGGS.replace(choices=("a fish", "a bird"))
    choice = Task(instruction="-", kind="choice", fields=Fields(choices="choices"))
    assert answer("It has wings. The answer is (B).", choice, birds).output == "a bird"
    assert answer("It has wings. The answer is (D).", choice, birds).output is None
    labels = Task(instruction="-", kind="classification", labels=["red", "blue"])
    assert answer("So it is. The answer is Blue.", labels).output == "blue"
    assert answer("So it is blue.", labels).output is None
    assert answer("3 + 2 = 5. The answer is 5.", SUMS).output == "5"
    assert answer("3 + 2 = 5 eggs, then", SUMS).output == "3 + 2 = 5 eggs, then"
    name = Task(instruction="-", kind="generation")
    assert answer("Written in May. The answer is Ann Lee.", name).output == "Ann Lee"
    ended = answer("The knee hurts. [ end ] and", name, of="target", ends="tag")
    assert (ended.output, ended.notes["stopped"]) == ("The knee hurts.", "marker")
    assert answer("So it is.", SUMS).notes["stopped"] == "ended"


def test_reasoning_without_an_end_and_a_row_without_an_answer_do_not_go_together():
    (row,) = made(EGGS.replace(target=None))
    assert isinstance(row, Dropped)
    assert row.reason == "no_target"
    assert text_of(EGGS.replace(target=None, rationale="3 + 2. The answer is 5.")) == " 3 + 2. The answer is 5."


def problems(count: int = 12) -> list[dict[str, Any]]:
    names, found = ("Tom", "Ann", "Luke", "Mia"), []
    for number in range(count):
        name, first, more = names[number % 4], number % 3 + 2, number % 2 + 3
        facts = f"{name} has {first} eggs. {name} buys {more} eggs."
        sums = f"So that makes {first} + {more} = {first + more} eggs."
        answer = str(first + more)
        found.append(
            {
                "id": number,
                "pieces": "a column of that name",
                "question": f"{facts} How many?",
                "answer": answer,
                "reasoning": f"{facts} {sums}",
            }
            | {"said": f"{facts} {sums}\nAnswer: {answer}"}
        )
    return found


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Any]:
    """Twelve problems that a student of random weights learns by heart, and is then asked."""
    rows = str(write_jsonl(tmp_path / "rows.jsonl", problems()))
    asked = [row | {"question": f"Tell me: {row['question']}"} for row in problems(4)]
    base = {"hidden_size": 64, "layers": 2, "heads": 4, "vocab_size": 300}
    return {
        "name": "eggs",
        "task": {
            "instruction": "Solve it.",
            "kind": "numeric",
            "fields": {"input": "question", "target": "answer", "rationale": "reasoning"},
            "train": rows,
            "test": str(write_jsonl(tmp_path / "test.jsonl", asked)),
            "metrics": ["numeric_accuracy", "rationale_rouge_l", "rationale_bleu"],
        },
        "student": {"kind": "seq2seq", "base": base, "steps": 2, "batch_size": 12, "learning_rate": 5e-3}
        | {"precision": "fp32", "threads": 1},
        "arms": {
            "gold": ["gold"],
            "plain": [{"as_es": {"path": "plain"}}],
            "dual": [{"as_es": {"beta": 1.0, "rounds": 2, "max_tokens": 30}}],
            "uni": [{"as_es": {"beta": 1.0, "rounds": 2, "max_tokens": 30, "path": "uni"}}],
            "random": [{"as_es": {"beta": 1.0, "rounds": 2, "max_tokens": 30, "shuffled": True}}],
        },
        "seeds": [0],
    }


def files(folder: Path) -> dict[str, bytes]:
    """What students learn from, by arm and step."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "steps").rglob("part-*.parquet"))
    }


@pytest.mark.slow
def test_a_study_of_all_paths_from_end_to_end(study: dict[str, Any], tmp_path: Path):
    folder = tmp_path / "run"
    report = run(study, folder=folder)
    models = {str(path.parent.relative_to(folder / "arms")) for path in folder.glob("arms/*/seed-0/**/model")}
    alone = {f"{arm}/seed-0" for arm in ("gold", "plain", "uni")}
    assert models == alone | {f"{arm}/seed-0/{part}" for arm in ("dual", "random") for part in ("es", "as")}
    assert len(list(folder.glob("teachers/*/model"))) == 1  # one scorer for all arms
    dual = report["arms"]["dual"]
    assert dual["rows"]["joined"] == 12
    assert dual["rows"]["made"] == dual["rows"]["kept"] == dual["training_rows"]
    assert dual["student"]["students"] == 2
    assert dual["student"]["steps"] == 4
    assert dual["segments"] == report["arms"]["uni"]["segments"]
    assert dual["segments"]["share_as"] == report["arms"]["random"]["segments"]["share_as"]
    assert sum(dual["inference"]["stopped"].values()) == 4
    answers = pq.read_table(folder / "arms/dual/seed-0/predictions.parquet").to_pylist()
    for answer in answers:
        notes = json.loads(answer["notes"])
        assert notes["stopped"] in ("marker", "cap", "stalled")
        assert 1 <= notes["rounds"] <= 2
        assert {part for part, _ in notes["pieces"]} <= {"es", "as"}
        assert answer["rationale"].split() == " ".join(text for _, text in notes["pieces"]).split()
    told = (folder / "REPORT.md").read_text()
    assert "## Segments" in told
    assert "2 students answer together" in told
    before, scores = files(folder), (folder / "arms/dual/seed-0/scores.json").read_bytes()
    assert run(study, folder=folder) == report
    assert run(study, folder=tmp_path / "again")["arms"]["dual"]["metrics"] == dual["metrics"]
    assert files(folder) == files(tmp_path / "again") == before
    assert (folder / "arms/dual/seed-0/scores.json").read_bytes() == scores


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["seq2seq", "causal"])
def test_what_was_learnt_by_heart_is_written_in_turns(study: dict[str, Any], tmp_path: Path, kind: str):
    other = problems()[0] | {"question": "Who is it then?"}  # the plan itself is asked below
    study["task"]["test"] = str(write_jsonl(tmp_path / "other.jsonl", [other]))
    study["student"] |= {"kind": kind, "steps": 150}
    cut = {"score": "rouge_l", "reverse": True, "beta": 1}  # the facts, then the sum and the answer
    chains = {"plain": {"path": "plain"}, "dual": cut, "uni": {**cut, "path": "uni"}}
    study["arms"] = {arm: [{"as_es": settings}] for arm, settings in chains.items()}
    run(study, folder=tmp_path / "run")
    asked = [
        Example(id=str(row["id"]), input=row["question"], target=row["answer"], rationale=row["reasoning"])
        for row in problems()
    ]
    for arm, settings in chains.items():
        told = settings | {"boundary": "\n" if kind == "causal" else ""}
        right, answers = 0, answered(tmp_path / "run" / "arms" / arm, asked, told)
        for row, answer in zip(asked, answers, strict=True):
            right += answer.rationale == f"{row.rationale} The answer is {row.target}."
        assert right >= 10, (arm, answers[0].rationale)
    told = cut | {"boundary": "\n" if kind == "causal" else ""}
    pieces = answered(tmp_path / "run" / "arms" / "dual", asked, told)[0].notes["pieces"]
    assert [part for part, _ in pieces] == ["es", "as"]


def test_a_causal_student_is_told_where_the_next_segment_begins(study: dict[str, Any]):
    for kind, boundary in (("seq2seq", ""), ("causal", "\n")):
        checked, _ = load_study(study | {"student": study["student"] | {"kind": kind}})
        plan = next(arm for arm in checked.plans() if arm.name == "uni")
        assert plan.chain[0].settings.model_dump()["boundary"] == boundary
    assert [row.input[-5:] for row in lessons(EGGS, boundary="\n")[:2]] == ["?\nA:\n", "ggs.\n"]


def answered(arm: Path, asked: list[Example], settings: dict[str, Any]) -> list[Any]:
    from understudy.students import load_model

    plan = plan_of(settings, SUMS)
    return list(plan.answer({part: load_model(arm / "seed-0" / part / "model") for part in plan.parts}, asked))


def plan_of(settings: dict[str, Any], task: Task) -> Plan:
    made = open_recipe("as_es").plan
    assert made
    return made(recipe_settings("as_es", settings, "chain"), task)


@pytest.mark.slow
def test_reasoning_of_an_earlier_recipe_is_cut(study: dict[str, Any], tmp_path: Path):
    rows = study["task"]["train"]
    study["task"]["unlabelled"] = rows
    study["task"]["fields"].pop("rationale")
    study["task"]["metrics"] = ["numeric_accuracy"]
    study["teacher"] = {"backend": "recorded", "replies": {"path": rows, "match": {"id": "{{ id }}"}, "reply": "said"}}
    study["arms"] = {
        "answered": [{"answers": {"reasoning": True}}, {"as_es": {"score": "location"}}],
        "explained": [{"teacherlm": {"explanations": ["rationale"]}}, {"as_es": {"score": "location"}}],
    }
    run(study, folder=tmp_path / "run")
    for arm in study["arms"]:
        chain = json.loads((tmp_path / "run" / "arms" / arm / "chain.json").read_text())
        learnt = list(Rows(tmp_path / "run" / "steps" / chain[-1]["key"]))
        first = [row for row in learnt if row.fields.get("question") == problems()[0]["question"]]
        assert first[0].target == " Tom has 2 eggs."
        assert len([row for row in learnt if row.target == " The answer is 5."]) == 2
    retrieved = {"rebase": {"datastore": str(tmp_path), "reasoning": True}}
    load_study(study | {"arms": {"x": [retrieved, {"as_es": {"score": "location"}}]}})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["arms.dual=[as_es, gold]"], "recipe 'as_es' says how students learn and answer; put it last"),
        (["task.fields.rationale=null", "task.metrics=[]"], "recipe 'as_es' needs 'rationale'"),
        (["task.fields.rationale=null", "arms={g: [gold]}"], "rationale_rouge_l needs the test rows' reasoning"),
        (
            ["student={kind: classifier}", "task.kind=classification"],
            "recipe 'as_es' needs one that writes; use seq2seq or causal",
        ),
        (["arms.dual=[{as_es: {of: target}}]"], "add ends: tag"),
        (["arms.dual=[{as_es: {ends: pattern}}]"], "pattern: it goes with ends: pattern"),
        (["arms.dual=[{as_es: {ends: pattern, pattern: '('}}]"], "pattern: missing )"),
        (["arms.dual=[{as_es: {ends: pattern, pattern: 'x*'}}]"], "pattern: 'x*' is in every text"),
        (["arms.dual=[{as_es: {ends: pattern, pattern: '####'}}]"], "or not in 'The answer is 0.'"),
        (["arms.dual=[{as_es: {score: entropie}}]"], "as_es.score"),
        (["arms.dual=[{as_es: {scorer: {kind: classifier}}}]"], "with kind: causal or kind: seq2seq"),
        (["arms.x={chain: [as_es], continues: dual}"], "arm 'dual' has several students a seed"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_trained(study: dict[str, Any], changes: list[str], told: str):
    with pytest.raises(SettingsError) as caught:
        load_study(study, changes)
    assert told in str(caught.value)


def test_a_beta_that_no_piece_reaches_leaves_the_dual_path_without_a_student(study: dict[str, Any], tmp_path: Path):
    study["arms"] = {"dual": [{"as_es": {"score": "location", "beta": 9}}]}
    with pytest.raises(DataError, match="arm 'dual': none of its 12 rows is for the student 'as'"):
        run(study, folder=tmp_path / "run")


def test_reasoning_is_compared_with_rows_that_have_some(study: dict[str, Any], tmp_path: Path):
    asked = [row | {"question": f"Tell me: {row['question']}"} for row in problems(2)]
    asked[1]["reasoning"] = None
    study["task"]["test"] = str(write_jsonl(tmp_path / "test.jsonl", asked))
    with pytest.raises(DataError, match="has no reasoning, which rationale_rouge_l compares with"):
        run(study, folder=tmp_path / "run")


@pytest.mark.slow
def test_each_of_several_students_may_go_on_from_one(study: dict[str, Any], tmp_path: Path):
    cut = {"as_es": {"score": "rouge_l", "reverse": True, "beta": 1, "rounds": 1, "max_tokens": 5}}
    study["arms"] = {"plain": study["arms"]["plain"], "dual": {"chain": [cut], "continues": "plain"}}
    report = run(study, folder=tmp_path / "run")
    assert report["arms"]["dual"]["continues"] == "plain"
    parts = [tmp_path / "run" / "arms" / "dual" / "seed-0" / part / "model" for part in ("es", "as")]
    plain = tmp_path / "run" / "arms" / "plain" / "seed-0" / "model" / "tokenizer.json"
    assert {(part / "tokenizer.json").read_bytes() for part in parts} == {plain.read_bytes()}
