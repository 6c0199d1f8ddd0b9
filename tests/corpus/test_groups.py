"""Sentences are shuffled on disk and put into groups: all of them, once, the same every time."""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.corpus import Sentence, grouped, shuffled
from understudy.records import Example, Row
from understudy.workspace.rows import write_rows


def some(count: int) -> list[Sentence]:
    return [Sentence(f"This is number {n}.\u2028", f"corpus/{n % 3}.txt:{n // 6}", n // 3) for n in range(count)]


def order(given: Iterable[Sentence], seed: int, folder: Path, memory_bytes: int = 1 << 24) -> list[Sentence]:
    return [one for one in shuffled(given, seed, folder, memory_bytes) if isinstance(one, Sentence)]


def place(one: Sentence) -> tuple[str, int]:
    return one.row, one.number


def texts(count: int) -> list[Example]:
    return [
        Example(id=f"corpus/a.txt:{n}", input=f"Line {n} stands here. So?\nA second sentence.") for n in range(count)
    ]


def groups(rows: Iterable[Example], folder: Path, size: int = 5) -> list[Row]:
    return list(grouped(rows, size=size, seed=7, folder=folder))


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 3), st.integers(300, 10_000), st.randoms(use_true_random=False))
def test_the_order_depends_on_seed_and_places_alone(count: int, seed: int, memory: int, draw: random.Random):
    mixed = some(count)
    draw.shuffle(mixed)
    with tempfile.TemporaryDirectory() as folder:
        first = order(some(count), seed, Path(folder))
        assert sorted(first, key=place) == sorted(mixed, key=place)
        assert order(mixed, seed, Path(folder), memory) == first
        assert not any(Path(folder).iterdir())


@settings(max_examples=25)
@given(st.integers(0, 20), st.integers(1, 9))
def test_every_sentence_is_in_one_group(count: int, size: int):
    with tempfile.TemporaryDirectory() as folder:
        made = groups(texts(count), Path(folder), size)
    kept = [row for row in made if isinstance(row, Example)]
    held = [(one["row"], one["sentence"]) for row in kept for one in row.fields["sentences"]]
    assert sorted(held) == sorted((row.id, number) for row in texts(count) for number in (0, 2))
    assert all(len(row.fields["sentences"]) == size for row in kept[:-1])
    assert len({row.id for row in kept}) == len(kept)


def test_another_seed_is_another_order(tmp_path: Path):
    orders = [order(some(200), seed, tmp_path) for seed in range(3)]
    assert len({tuple(one) for one in orders}) == 3
    assert some(200) not in orders


def test_a_group_says_where_its_sentences_stand(tmp_path: Path):
    rows = [Example(id="a", input="One here. Two there."), Example(id="b", input="Three more.")]
    (group,) = groups(rows, tmp_path)
    assert isinstance(group, Example)
    places = {"One here.": ("a", 0), "Two there.": ("a", 1), "Three more.": ("b", 0)}
    assert {one["text"]: (one["row"], one["sentence"]) for one in group.fields["sentences"]} == places
    assert group.input == " ".join(one["text"] for one in group.fields["sentences"])
    assert sorted(group.parents) == ["a", "b"]
    assert (group.target, group.origin) == (None, None)
    (again,) = groups([rows[0], Example(id="b", input="Three others.")], tmp_path)
    assert isinstance(again, Example)
    assert again.id != group.id


def test_every_row_of_a_step_is_accounted_for(tmp_path: Path):
    rows = [*texts(52), Example(id="blank", input=" \n"), Example(id="short", input="So?")]
    first = write_rows(tmp_path / "first", "train", None, rows, dict)
    step = write_rows(tmp_path / "step", "groups", first, groups(first, tmp_path), dict)
    assert list(step) == [row for row in groups(rows, tmp_path) if isinstance(row, Example)]
    taken = step.taken
    assert (taken.rows_in, taken.kept, taken.joined) == (54, 21, 53)
    assert taken.dropped == {"short_sentence": 53, "empty_document": 1}
    out = {row.example.id: row.example for row in step.dropped()}
    assert out["corpus/a.txt:1+sentence.1"].parents == ("corpus/a.txt:1",)
    assert out["blank"].input == " \n"


def test_a_killed_run_leaves_nothing_that_counts(tmp_path: Path):
    program = (
        "import os, sys; from pathlib import Path\n"
        "from understudy.corpus import sentences, shuffled\n"
        "from understudy.records import Dropped, Example\n"
        "rows = [Example(id=str(n), input='Line number n.') for n in range(50)]\n"
        "made = shuffled(sentences(rows), 7, Path(sys.argv[1]), 100)\n"
        "assert any(not isinstance(row, Dropped) for row in made)\n"
        "os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path / "killed")], check=False)
    assert killed.returncode == 9
    assert any((tmp_path / "killed" / "shuffle").iterdir())
    assert groups(texts(50), tmp_path / "killed") == groups(texts(50), tmp_path / "whole")
    assert not any((tmp_path / "killed").iterdir())


def test_a_broken_off_run_takes_its_buckets_away(tmp_path: Path):
    made = shuffled(some(20), 0, tmp_path)
    next(made)
    assert (tmp_path / "shuffle").exists()
    made.close()  # type: ignore[attr-defined]
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path: Path):
    peaks = []
    for lines in (20_000, 200_000):
        program = (
            "import sys; from pathlib import Path\n"
            "from understudy.corpus import sentences, shuffled\n"
            "from understudy.records import Example\n"
            "line = 'Line %d of the corpus is a sentence of some length, as many are.'\n"
            "rows = (Example(id=str(n), input=line % n) for n in range(int(sys.argv[2])))\n"
            "made = shuffled(sentences(rows), 0, Path(sys.argv[1]), 1 << 20)\n"
            "assert sum(1 for _ in made) == int(sys.argv[2])\n"
            "(line,) = (line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
            "print(int(line.split()[1]) / 1024)"
        )
        told = [sys.executable, "-c", program, str(tmp_path), str(lines)]
        peaks.append(float(subprocess.run(told, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 8, peaks
