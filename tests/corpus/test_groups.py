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

from understudy.corpus import Sentence, groups, sentences, shuffled
from understudy.records import Dropped, Example, Row
from understudy.workspace.rows import write_rows


def some(count: int) -> list[Sentence]:
    return [Sentence(f"This is number {n}.\u2028", f"corpus/{n % 3}.txt", n // 3, n % 2) for n in range(count)]


def order(given: Iterable[Sentence], seed: int, folder: Path, memory_bytes: int = 1 << 24) -> list[Sentence]:
    return [one for one in shuffled(given, seed, folder, memory_bytes) if isinstance(one, Sentence)]


@settings(max_examples=25)
@given(st.integers(0, 60), st.integers(0, 3), st.integers(300, 10_000), st.randoms(use_true_random=False))
def test_the_order_depends_on_seed_and_places_alone(count: int, seed: int, memory: int, draw: random.Random):
    mixed = some(count)
    draw.shuffle(mixed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        first = order(some(count), seed, place)
        assert sorted(first, key=lambda one: one.id) == sorted(mixed, key=lambda one: one.id)
        assert order(mixed, seed, place, memory) == first
        assert not any(place.iterdir())


@given(st.integers(0, 40), st.integers(1, 9), st.booleans())
def test_every_sentence_is_in_one_group(count: int, size: int, keep_last: bool):
    made = list(groups(some(count), size, keep_last))
    rows = [row.example if isinstance(row, Dropped) else row for row in made]
    assert [parent for row in rows for parent in row.parents] == [one.id for one in some(count)]
    assert all(len(row.parents) == size for row in rows[:-1])
    assert len({row.id for row in rows}) == len(rows)
    out = [row.reason for row in made if isinstance(row, Dropped)]
    assert out == (["short_group"] if count % size and not keep_last else [])


def test_another_seed_is_another_order(tmp_path: Path):
    orders = [order(some(200), seed, tmp_path) for seed in range(3)]
    assert len({tuple(one) for one in orders}) == 3
    assert some(200) not in orders


def test_a_group_says_where_its_sentences_stand():
    (row,) = groups([Sentence("One here.", "a/b.txt", 3, 1), Sentence("Two there.", "a/c.txt", 0, 0)])
    assert isinstance(row, Example)
    assert row.input == "One here. Two there."
    assert row.parents == ("a/b.txt:3.1", "a/c.txt:0.0")
    assert row.fields["sentences"] == [
        {"text": "One here.", "file": "a/b.txt", "document": 3, "sentence": 1},
        {"text": "Two there.", "file": "a/c.txt", "document": 0, "sentence": 0},
    ]
    (again,) = groups([Sentence("One here!", "a/b.txt", 3, 1), Sentence("Two there.", "a/c.txt", 0, 0)])
    assert isinstance(again, Example)
    assert again.id != row.id


def grouped(corpus: Path, folder: Path) -> Iterable[Row]:
    return groups(shuffled(sentences(corpus), 7, folder))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    place = tmp_path / "corpus"
    place.mkdir()
    (place / "a.txt").write_text("".join(f"Line {n} stands here. So?\n" for n in range(52)))
    (place / "b.bin").write_bytes(b"\0")
    return place


def test_groups_are_written_as_the_rows_of_a_step(tmp_path: Path, corpus: Path):
    rows = write_rows(tmp_path / "step", "groups", None, grouped(corpus, tmp_path), dict)
    assert list(rows) == [row for row in grouped(corpus, tmp_path) if isinstance(row, Example)]
    assert rows.taken.kept == 11
    assert rows.taken.dropped == {"short_sentence": 52, "unknown_format": 1}
    assert [one.example.fields for one in rows.dropped()][1] == {"file": "corpus/a.txt", "document": 1, "sentence": 1}
    assert not (tmp_path / "shuffle").exists()


def test_a_killed_run_leaves_nothing_that_counts(tmp_path: Path, corpus: Path):
    program = (
        "import os, sys; from pathlib import Path\n"
        "from understudy.corpus import groups, sentences, shuffled\n"
        "from understudy.records import Dropped\n"
        "made = groups(shuffled(sentences(sys.argv[1]), 7, Path(sys.argv[2]), 100))\n"
        "assert any(not isinstance(row, Dropped) for row in made)\n"
        "os._exit(9)"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(corpus), str(tmp_path / "killed")], check=False)
    assert killed.returncode == 9
    assert any((tmp_path / "killed" / "shuffle").iterdir())
    again = list(grouped(corpus, tmp_path / "killed"))
    assert again == list(grouped(corpus, tmp_path / "whole"))
    assert not any((tmp_path / "killed").iterdir())


def test_a_broken_off_run_takes_its_buckets_away(tmp_path: Path):
    made = shuffled(some(20), 0, tmp_path)
    next(made)
    assert (tmp_path / "shuffle").exists()
    made.close()  # type: ignore[attr-defined]
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path):
    peaks = []
    for lines in (10_000, 100_000):
        file = tmp_path / f"{lines}.txt"
        with file.open("w") as stream:
            stream.writelines(
                f"Line {n} of the corpus is a sentence of some length, as many are.\n" for n in range(lines)
            )
        program = (
            "import sys; from pathlib import Path\n"
            "from understudy.corpus import groups, sentences, shuffled\n"
            "made = groups(shuffled(sentences(sys.argv[1]), 0, Path(sys.argv[2]), 1 << 20))\n"
            "assert sum(1 for _ in made) == int(sys.argv[3]) // 5\n"
            "(line,) = (line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
            "print(int(line.split()[1]) / 1024)"
        )
        told = [sys.executable, "-c", program, str(file), str(tmp_path), str(lines)]
        peaks.append(float(subprocess.run(told, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 8, peaks
