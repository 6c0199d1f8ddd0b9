"""The generated problems: made by their script, nothing of the test in the training text; their study runs offline."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from understudy.spine import run
from understudy.study_file import load_study

EXAMPLES = Path(__file__).parents[2] / "examples"
PROBLEMS = EXAMPLES / "problems"
SPLITS = ("train", "valid", "test")


def text_of(folder: Path, split: str) -> str:
    return gzip.decompress((folder / f"{split}.jsonl.gz").read_bytes()).decode()


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, Any]]]:
    return {split: [json.loads(line) for line in text_of(PROBLEMS, split).splitlines()] for split in SPLITS}


def creature(row: dict[str, Any]) -> str:
    return row["id"].partition("-")[0]


def asked(row: dict[str, Any]) -> str:
    return row["id"].partition("-")[2]


def test_the_script_makes_the_same_rows_and_others_from_another_seed(tmp_path: Path):
    subprocess.run([sys.executable, str(PROBLEMS / "make.py"), "--out", str(tmp_path)], check=True)
    for split in SPLITS:  # unpacked: how gzip packs depends on its version
        assert text_of(tmp_path, split) == text_of(PROBLEMS, split)
    subprocess.run([sys.executable, str(PROBLEMS / "make.py"), "--out", str(tmp_path), "--seed", "1"], check=True)
    assert text_of(tmp_path, "test") != text_of(PROBLEMS, "test")


def test_no_training_text_holds_a_creature_with_an_answer_of_its_test_rows(splits: dict[str, list[dict[str, Any]]]):
    told = defaultdict[str, set[str]](set)  # creature -> every word of the training rows that name it
    for row in splits["train"]:
        words = set(re.findall(r"\w+", json.dumps(row)))
        assert words & {creature(one) for one in splits["train"]} == {creature(row)}
        told[creature(row)] |= words
    for row in splits["valid"] + splits["test"]:
        assert row["answer"] not in told[creature(row)], row["id"]
    ids = [row["id"] for split in SPLITS for row in splits[split]]
    assert len(set(ids)) == len(ids)


def test_what_the_explanations_say_is_right_and_enough_to_answer_every_row(splits: dict[str, list[dict[str, Any]]]):
    kinds, rules = dict[str, str](), dict[tuple[str, str], str]()
    for row in splits["train"]:
        rationale = re.fullmatch(r"A (\w+) is a (\w+)\. Every \2 .*\. So the answer is (\w+)\.", row["rationale"])
        mistake = re.match(r"Some take a (\w+) for a (\w+), which (.*)\. But", row["mistakes"])
        assert rationale
        assert mistake
        name, kind, answer = rationale.groups()
        assert (name, mistake[1], answer) == (creature(row), creature(row), row["answer"])
        assert kinds.setdefault(name, kind) == kind
        assert rules.setdefault((kind, asked(row)), answer) == answer
        (own,) = [rule for rule in row["fundamentals"].split(".") if f"very {kind} " in rule]
        assert answer in own.split()
        (others,) = [rule for rule in row["fundamentals"].split(".") if f"very {mistake[2]} " in rule]
        assert others.endswith(f" {mistake[3]}")
        assert own != others
        assert name not in row["fundamentals"]
    for row in splits["valid"] + splits["test"]:
        assert rules[kinds[creature(row)], asked(row)] == row["answer"]


def test_neither_the_letter_nor_the_commonest_answer_tells_the_right_one(splits: dict[str, list[dict[str, Any]]]):
    commonest = defaultdict[str, Counter[str]](Counter)
    for row in splits["train"]:
        commonest[asked(row)][row["answer"]] += 1
    for rows in splits.values():
        places = Counter(row["choices"].index(row["answer"]) for row in rows)
        assert set(places.values()) == {len(rows) // 4}
    guessed = [commonest[asked(row)].most_common(1)[0][0] == row["answer"] for row in splits["test"]]
    assert sum(guessed) / len(guessed) < 0.27


def test_the_arms_are_those_of_table_7_and_the_two_subsets_that_it_lacks():
    study, written = load_study(EXAMPLES / "teacherlm-problems.yaml")
    short = {"rationale": "C", "mistakes": "M", "fundamentals": "F"}
    chains = {name: arm["chain"] for name, arm in written["arms"].items()}
    assert chains.pop("gold") == ["gold"]
    assert chains.pop("shuffled") == [{"teacherlm": {"shuffle": True}}]
    for name, [link] in chains.items():
        assert " ".join(short[one] for one in link["teacherlm"]["explanations"]) == name
    assert set(chains) == {"C", "C M", "C M F", "F C M", "M", "F"} | {"C F", "M F"}
    assert (study.seeds, study.equal) == ((0, 1, 2, 3, 4), ("steps", "tokens"))


@pytest.mark.slow
def test_the_study_runs_twice_to_the_same_files_and_asks_no_teacher(tmp_path: Path):
    _, written = load_study(EXAMPLES / "teacherlm-problems.yaml")
    arms = {name: written["arms"][name] for name in ("gold", "shuffled")}
    small = ["student.steps=1", "student.base.hidden_size=16", "seeds=[0]", "equal=[steps]"]
    changes = [f"arms={json.dumps(arms)}", *small]
    reports = [
        run(EXAMPLES / "teacherlm-problems.yaml", folder=tmp_path / name, changes=changes, limit=12, offline=True)
        for name in ("one", "two", "two")
    ]
    for report in reports:
        kept = {name: (arm["rows"]["kept"], arm["rows"]["dropped"]) for name, arm in report["arms"].items()}
        assert kept == {"gold": (12, {}), "shuffled": (12, {})}
    assert reports[1] == reports[2]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def files_of(folder: Path) -> dict[str, bytes]:
    """What was made to learn from, what was learnt and what was answered."""
    kinds = ("steps/**/*.parquet", "arms/**/*.safetensors", "arms/**/predictions.parquet")
    return {str(path.relative_to(folder)): path.read_bytes() for kind in kinds for path in sorted(folder.glob(kind))}
