"""A study file: what it may say, and the one clear line for what it may not."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from understudy.errors import DataError, SettingsError
from understudy.study_file import load_study

GOOD = """
name: toy
task:
  instruction: Which colour?
  kind: classification
  labels: [red, blue]
  fields: {input: text, target: label}
  train: train.jsonl
  unlabelled: {path: more.jsonl}
  test: test.jsonl
teacher: {backend: recorded, replies: {path: replies.jsonl, match: {text: text}}}
student: {kind: classifier, steps: 4}
arms:
  gold: [gold]
  answers: [answers]
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(dedent(GOOD))
    return path


def test_paths_are_relative_to_the_study_file(study: Path):
    checked, _ = load_study(study)
    assert checked.task.sources("train")[0].path == str(study.parent / "train.jsonl")
    assert checked.teacher is not None
    assert checked.teacher.replies[0].path == str(study.parent / "replies.jsonl")


def test_an_arm_overrides_what_it_names_and_nothing_else(study: Path):
    changes = ["arms.small={chain: [gold], task: {train: {limit: 3}}, student: {steps: 2}}"]
    checked, _ = load_study(study, changes)
    gold, _, small = checked.plans()
    (source,) = small.task.sources("train")
    assert (source.limit, source.path) == (3, str(study.parent / "train.jsonl"))
    assert small.task.test == gold.task.test
    assert small.student.model_dump()["steps"] == 2
    assert gold.student.model_dump()["steps"] == 4


def test_a_link_may_ask_a_teacher_of_its_own(study: Path):
    own = "{model: palm, replies: [{path: palm.jsonl, match: {text: text}}]}"
    checked, _ = load_study(study, [f"arms.two.chain=[answers, {{teacherlm: {{}}, teacher: {own}}}]"])
    one, other = checked.plans()[-1].chain
    assert one.teacher == checked.teacher
    assert other.teacher is not None
    assert other.teacher.model == "palm"
    assert other.teacher.replies[0].path == str(study.parent / "palm.jsonl")
    assert checked.plans()[0].chain[0].teacher is None  # gold asks nobody
    assert [teacher.model for teacher in checked.plans()[-1].teachers] == [None, "palm"]


def test_another_model_inherits_neither_price_nor_name(study: Path):
    def teachers(*changes: str) -> list[tuple[str | None, str | None, float | None, int]]:
        teacher = "teacher={model: big, name: b, base_url: 'http://a/v1', concurrency: 7, price: {input: 9, output: 9}}"
        checked, _ = load_study(study, [teacher, *changes])
        chains = [arm.chain[0].teacher for arm in checked.plans()]
        return [(one.model, one.name, one.price and one.price.input, one.concurrency) for one in chains if one]

    alone = [("big", "b", 9, 7)]
    assert teachers("arms.one={chain: [answers], teacher: {sampling: {temperature: 0.5}, model: big}}") == alone * 2
    small = ("small", None, None, 7)
    assert teachers("arms.one={chain: [answers], teacher: {model: small}}") == [*alone, small]
    assert teachers("arms.one=[{answers: {}, teacher: {model: small}}]") == [*alone, small]
    assert teachers("arms.one=[{answers: {}, teacher: {base_url: 'http://b/v1'}}]")[1] == ("big", None, None, 7)
    own = "{model: small, name: s, price: {input: 1, output: 2}}"
    assert teachers(f"arms.one=[{{answers: {{}}, teacher: {own}}}]") == [*alone, ("small", "s", 1, 7)]


def test_set_reaches_any_key_and_python_takes_the_same_words(study: Path):
    checked, written = load_study(study, ["student.steps=9", "arms.answers.chain=[{answers: {shots: 2}}]"])
    assert checked.plans()[1].student.model_dump()["steps"] == 9
    assert written["arms"]["answers"]["chain"] == [{"answers": {"shots": 2}}]
    again, _ = load_study(checked)
    assert again == checked


def test_only_paths_are_taken_for_paths(study: Path):
    changes = ["task.labels={test: red, path: blue}", "teacher.replies.match={path: path}"]
    checked, _ = load_study(study, changes)
    assert checked.task.label_of == {"test": "red", "path": "blue"}
    assert checked.teacher is not None
    assert checked.teacher.replies[0].match == {"path": "path"}


def test_an_arms_override_keeps_what_it_does_not_name(study: Path):
    url = "http://me:pass@localhost:1/v1?key=k"
    live = f"teacher={{backend: openai, model: m, base_url: '{url}'}}"
    checked, written = load_study(study, [live, "arms.x={chain: [answers], teacher: {sampling: {temperature: 0}}}"])
    (teacher,) = checked.plans()[-1].teachers
    assert (teacher.base_url, teacher.sampling.temperature) == (url, 0)
    assert written["teacher"]["base_url"] == "http://***@localhost:1/v1"


def test_words_that_only_look_like_urls_stay(study: Path):
    text = "Sort. See https://x.org/a?y=1 for rules"
    assert load_study(study, [f"task.instruction={text}"])[1]["task"]["instruction"] == text


def test_variables_come_from_the_environment_and_are_not_written(study: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_DATA", "/data")
    checked, written = load_study(study, ["task.train=${MY_DATA}/t.jsonl"])
    assert checked.task.sources("train")[0].path == "/data/t.jsonl"
    assert written["task"]["train"] == "${MY_DATA}/t.jsonl"


WRONG = [
    ("task.instructions=x", "task.instructions: unknown key. Did you mean 'instruction'? Known: "),
    ("student.kind=clasifier", "there is no student 'clasifier'. Did you mean 'classifier'?"),
    ("student.stepps=4", "student.stepps: unknown key. Did you mean 'steps'?"),
    ("student.steps=many", "student.steps: Input should be a valid integer"),
    ("arms.x=[answer]", "arms.x.chain: unknown recipe 'answer'. Did you mean 'answers'? Known: answers, as_es, cot"),
    ("arms.x=[{answers: {shot: 1}}]", "arms.x.chain.answers.shot: unknown key. Did you mean 'shots'?"),
    ("arms.x={chain: [gold], tsk: {}}", "arms.x.tsk: unknown key. Did you mean 'task'?"),
    ("arms.x={chain: [gold], task: {test: other.jsonl}}", "arms are compared on one test split"),
    ("arms.x=[]", "arms.x.chain: "),
    ("task.unlabelled=null", "arms.answers.chain: recipe 'answers' needs 'unlabelled'; add task.unlabelled"),
    ("teacher=null", "arms.answers.chain: recipe 'answers' asks a teacher, and the study names none; add teacher:"),
    ("task.fields.target=null", "arms.gold.chain: recipe 'gold' needs 'target'; add task.train with fields.target"),
    ("task.train=null", "arms.gold.chain: recipe 'gold' needs 'target'"),
    ("task.labels=[red, red]", "labels stand twice in the list: 'red'"),
    ("task.labels=[red]", "labels: at least two different labels are needed"),
    ("task.metrics=[acuracy]", "Did you mean 'accuracy'?"),
    ("task.train=${NOT_SET_ANYWHERE}/x.jsonl", "task.train: the environment variable NOT_SET_ANYWHERE is not set"),
    ("seeds=[1, 1]", "seeds: a value stands twice in the list"),
    ("equal=[minutes]", "equal.0: Input should be 'steps', 'tokens'"),
    ("equal=[]", "equal: Tuple should have at least 1 item"),
    ("equal=[usd]", "equal: usd: what the teacher of arm 'answers' costs is not known"),
    ("seeds=[-1]", "seeds.0: Input should be greater than or equal to 0"),
    ("arms=5", "arms: a mapping of names to chains is expected, got 5"),
    ("arms.x=[{gold: {}, teacher: {model: a}}]", "arms.x.chain: recipe 'gold' asks no teacher; take its teacher: out"),
    ("arms.x=[{answers: {}, teacher: {modl: a}}]", "arms.x.chain.teacher.modl: unknown key. Did you mean 'model'?"),
    ("arms.x=[{gold: {}, answers: {}}]", "arms.x.chain: a link is a recipe's name or {name: {settings}}"),
    ("arms.x={chain: [gold], continues: y}", "arms.x.continues: no arm 'y' stands before it. Known: gold, answers"),
    ("arms.x={chain: 5}", "arms.x.chain: Input should be a valid list"),
    ("arms.x={chain: [gold], continues: gold}", "arms.x.continues: a classifier does not go on from another's student"),
    ("arms.x=[{answers: 5}]", "arms.x.chain.answers: Input should be a valid dictionary"),
    ("arms.x={chain: [gold], task: {labels: {a: red, b: green}}}", "arms are compared on one test split"),
    ("arms.x={chain: [gold], task: {fields: {input: words}}}", "arms.x.task.fields: the test rows are read with"),
    ("task.kind=pretraining", "arms.gold.chain: recipe 'gold' is about answers"),
    ("filters={language: en}", "filters: Dictionary should have at most 0 items"),
    ("student.steps=[1,", "--set 'student.steps=[1,': the value is no YAML"),
    ("name=a/b", "name: String should match pattern"),
    ("arms.x", "--set 'arms.x': write it as key.subkey=value"),
    ("name.x=1", "--set 'name.x=1': 'name' holds 'toy' and has no keys below it"),
    ("arms.gold.chain.1=answers", "--set 'arms.gold.chain.1=answers': 'chain' is a list of 1: say which by its number"),
]


@pytest.mark.parametrize(("change", "line"), WRONG, ids=[change for change, _ in WRONG])
def test_what_is_wrong_is_said_in_one_clear_line(study: Path, change: str, line: str):
    with pytest.raises((SettingsError, DataError)) as caught:
        load_study(study, [change])
    assert re.search(re.escape(line), str(caught.value)), str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: [", "study.yaml: not YAML: "),
        ("name: a\nname: b", "line 2: the key 'name' stands twice"),
        ("- a", "a study is a mapping with name, task, student and arms"),
        ("", "a study is a mapping"),
        ("name: a", "task: this key is required"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, text: str, line: str):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(line)):
        load_study(path)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path):
    with pytest.raises(SettingsError, match="there is no study file"):
        load_study(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="is a folder; name the study file"):
        load_study(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(SettingsError, match="not UTF-8 at byte 9"):
        load_study(tmp_path / "latin.yaml")
