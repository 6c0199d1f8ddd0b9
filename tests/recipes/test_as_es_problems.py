"""The generated word problems: made by their script, computed rightly, and their true segments are what they say."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from operator import add, floordiv, mul, sub
from pathlib import Path
from typing import Any

import pytest

PROBLEMS = Path(__file__).parents[2] / "examples" / "as_es"
SPLITS = ("train", "valid", "test")
SIGNS = {"+": add, "-": sub, "*": mul, "/": floordiv}
EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


def text_of(folder: Path, split: str) -> str:
    return gzip.decompress((folder / f"{split}.jsonl.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, Any]]]:
    return {split: [json.loads(line) for line in text_of(PROBLEMS, split).splitlines()] for split in SPLITS}


@pytest.fixture(scope="module")
def rows(splits: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in splits[split]]


def clauses(text: str) -> set[str]:
    """``Anna had 3 eggs and Ben lost 2 eggs. Then ...`` -> each fact, in small letters."""
    return set(re.split(r"\. | and ", text.strip(" .").lower()))


def facts(row: dict[str, Any]) -> set[str]:
    return clauses(row["question"].rpartition(". ")[0])


@pytest.mark.slow
def test_the_script_makes_the_same_rows_and_others_from_another_seed(tmp_path: Path):
    subprocess.run([sys.executable, str(PROBLEMS / "make.py"), "--out", str(tmp_path)], check=True)
    for split in SPLITS:  # unpacked: how gzip packs depends on its version
        assert text_of(tmp_path, split) == text_of(PROBLEMS, split)
    subprocess.run([sys.executable, str(PROBLEMS / "make.py"), "--out", str(tmp_path), "--seed", "1"], check=True)
    assert text_of(tmp_path, "test") != text_of(PROBLEMS, "test")


def test_no_question_stands_twice_in_any_of_the_files(rows: list[dict[str, Any]]):
    assert len({row["question"] for row in rows}) == len(rows)


def test_every_computation_is_right_and_leads_to_the_answer(rows: list[dict[str, Any]]):
    for row in rows:
        known = {int(n) for n in re.findall(r"\d+", row["question"])}
        equations = EQUATION.findall(row["rationale"])
        assert 2 <= len(equations) <= 4
        assert row["rationale"].count("=") == len(equations)
        for a, sign, b, result in equations:
            assert {int(a), int(b)} <= known, row
            assert SIGNS[sign](int(a), int(b)) == int(result), row
            assert sign != "/" or int(a) % int(b) == 0
            known.add(int(result))
        assert equations[-1][3] == row["answer"]
        assert row["rationale"].endswith(f". The answer is {row['answer']}.")


def test_extractive_sentences_are_facts_of_the_question_and_abstractive_ones_compute(rows: list[dict[str, Any]]):
    for row in rows:
        assert "".join(text for _, text in row["pieces"]) == row["rationale"]
        assert row["pieces"][-1] == ["as", f" The answer is {row['answer']}."]
        for tag, text in row["pieces"][:-1]:
            assert (tag == "as") == bool(EQUATION.search(text)), text
            if tag == "es":
                assert clauses(text) <= facts(row), row
            else:
                assert text.strip(" .").lower() not in row["question"].lower()


def test_the_reasoning_takes_some_facts_and_leaves_others(splits: dict[str, list[dict[str, Any]]]):
    for rows in splits.values():
        for row in rows:
            taken = {fact for tag, text in row["pieces"] if tag == "es" for fact in clauses(text)}
            assert taken < facts(row), row
        begins = [row["pieces"][0][0] for row in rows]
        assert 0.02 < begins.count("as") / len(rows) < 0.08
