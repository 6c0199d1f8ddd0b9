"""Imports go down only, and never to a neighbour on the same step."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "understudy"

STEPS = [
    {"errors"},
    {"records", "settings", "templates", "progress", "choices", "pretrained", "generation"},
    {"prompts", "task", "segment"},
    {"sources", "workspace"},
    {"corpus"},
    {"teachers", "splits"},
    {"retrieve"},
    {"curate", "evaluation"},
    {"students", "answer_files"},
    {"plans", "scoring", "suites", "given"},
    {"segmenting"},
    {"recipes", "tuning"},
    {"study", "report"},
    {"study_file", "reading"},
    {"lessons"},
    {"equal"},
    {"graduates", "diversities", "writings"},
    {"spine", "rehearsal", "provenance", "doctor", "console"},
    {"cassettes", "sweeps", "finetuning"},
    {"ledger_commands", "datastore_commands", "segment_command", "finetune_command", "evaluate_command"},
    {"cli"},
]
STEP_OF = {room: height for height, rooms in enumerate(STEPS) for room in rooms}


def rooms() -> list[str]:
    found = (path.stem if path.is_file() else path.name for path in PACKAGE.iterdir())
    return sorted(room for room in found if not room.startswith(("__", "py.typed")) and room != "py")


def imports_of(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names.add(node.module or "")
            names |= {f"understudy.{alias.name}" for alias in node.names if node.module == "understudy"}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("understudy.")}


def test_every_room_of_the_house_stands_on_a_step():
    assert set(rooms()) == set(STEP_OF)


@pytest.mark.parametrize("room", sorted(STEP_OF))
def test_a_room_imports_only_from_lower_steps(room: str):
    place = PACKAGE / f"{room}.py"
    files = [place] if place.exists() else (PACKAGE / room).rglob("*.py")
    for file in files:
        for other in imports_of(file) - {room}:
            assert STEP_OF[other] < STEP_OF[room], f"{file.name} of {room} imports {other}, which is not below it"


def test_recipes_never_import_one_another():
    for file in (PACKAGE / "recipes").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("understudy.recipes."):
                raise AssertionError(f"{file.name} imports {node.module}")


def test_a_recipe_is_never_over_200_lines():
    for file in (PACKAGE / "recipes").glob("*.py"):
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 200, file
