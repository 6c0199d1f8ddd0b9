"""Stores without vectors: the score by words beside a plain reading of BM25's formula, and the commands."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from understudy import Example, Given, Task
from understudy.errors import DataError
from understudy.recipes.rebase import Rebase, retrieved
from understudy.retrieve.building import build, remove
from understudy.retrieve.datastore import Datastore
from understudy.retrieve.encoder import open_encoder
from understudy.retrieve.search import Found, Query, search
from understudy.retrieve.tables import DatasetSource

Tables = dict[str, list[dict[str, str]]]

BANK = [
    {"message": "Where is my new card?", "desk": "cards"},
    {"message": "My card is lost, and is no card to come?", "desk": "cards"},
    {"message": "Change the password", "desk": "login", "urgent": "no"},
    {"message": "?!", "desk": "none"},
]
TABLES: Tables = {
    "bank": BANK,
    "farm": [{"animal": "a cow", "sound": "moo"}, {"animal": "my new cow"}, {"animal": "card games for a cow"}],
    "sums": [{"sum": "3 + 4", "is": "7"}, {"sum": "my 3 cards", "is": "no"}],
}
ABOUT = {"bank": "Messages to a bank and the desk they are for", "farm": "Animals", "sums": "Sums for the desk"}
DESK = Query("Which desk is the message for?", (("My NEW card?", "cards"), ("card lost, lost card", "no")))


def stored(folder: Path, tables: Tables = TABLES) -> Datastore:
    folder.mkdir(exist_ok=True)
    sources = []
    for name, rows in tables.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append(DatasetSource(path=str(path), name=name, description=ABOUT.get(name, name)))
    assert not build(folder / "store", sources, encoder="bm25").skipped
    return Datastore.open(folder / "store")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Datastore:
    return stored(tmp_path_factory.mktemp("bank") / "tables")


def found_in(store: Datastore, query: Query = DESK, k: int = 20, exclude: Sequence[str] = ()) -> list[Found]:
    return search(store, open_encoder("bm25"), query, k, exclude=exclude)


def by_formula(queries: Sequence[str], texts: Sequence[str]) -> dict[str, float]:
    """Lucene's BM25 of each text, the mean over the queries, as a share of the largest."""
    words = {text: re.findall(r"\w+", text.lower()) or ["?"] for text in texts}
    length = sum(len(words[text]) for text in texts) / len(texts)

    def score(query: str, text: str) -> float:
        total = 0.0
        for word in re.findall(r"\w+", query.lower()):
            held = sum(word in words[other] for other in texts)
            rare = math.log(1 + (len(texts) - held + 0.5) / (held + 0.5))
            often = words[text].count(word)
            total += rare * often / (often + 1.5 * (1 - 0.75 + 0.75 * len(words[text]) / length))
        return total

    scores = {text: sum(score(query, text) for query in queries) / len(queries) for text in texts}
    return {text: score / max(scores.values()) for text, score in scores.items()}


def test_the_score_is_the_formula(store: Datastore):
    """Every row, with words of one letter, "no" as an answer, and a text without a word."""
    texts = [text for rows in TABLES.values() for text in dict.fromkeys(text for row in rows for text in row.values())]
    inputs, outputs = (by_formula(queries, texts) for queries in zip(*DESK.examples, strict=True))
    about = by_formula([DESK.instruction], list(ABOUT.values()))
    found = found_in(store)
    assert len(found) == sum(map(len, TABLES.values()))
    for one in found:
        cells = [text for _, text in one.cells]
        parts = max(map(inputs.get, cells)), max(map(outputs.get, cells)), about[one.description]  # pyright: ignore
        assert one.parts == pytest.approx(parts, abs=1e-6)
        assert one.score == pytest.approx(sum(parts) / 3, abs=1e-6)
        assert inputs[dict(one.cells)[one.input_column]] == parts[0]


def test_rows_with_the_words_of_the_task_come_first(store: Datastore):
    found = found_in(store)
    assert [(one.dataset, one.row) for one in found[:2]] == [("bank", 1), ("bank", 0)]
    assert (found[1].input_column, found[1].output_column) == ("message", "desk")
    assert [max(one.parts[part] for one in found) for part in range(3)] == pytest.approx([1, 1, 1])
    assert (found[-1].dataset, found[-1].row, found[-1].score) == ("farm", 0, 0)  # "a cow" shares no word


def test_without_a_word_in_common_rows_come_in_their_order(store: Datastore):
    found = found_in(store, Query("...", (("zebra", "?"),)))
    assert {one.score for one in found} == {0}
    assert [(one.dataset, one.row) for one in found] == [(name, i) for name in TABLES for i in range(len(TABLES[name]))]


def test_neither_order_of_adding_nor_what_is_left_out_changes_a_score(store: Datastore, tmp_path: Path):
    found = found_in(store)
    assert found_in(stored(tmp_path / "back", dict(reversed(TABLES.items())))) == found
    assert found_in(store, exclude=["bank"]) == [one for one in found if one.dataset != "bank"]


def test_an_empty_store_has_no_rows(tmp_path: Path):
    store = stored(tmp_path, {"bank": BANK})
    remove(store.path, "bank")
    assert found_in(Datastore.open(store.path)) == []


def test_a_store_goes_with_the_encoder_that_built_it(store: Datastore, tmp_path: Path, encoder: str):
    with pytest.raises(DataError, match=r"built by the encoder 'bm25' .* which is not "):
        search(store, open_encoder(encoder), DESK, 3)
    source = DatasetSource(path=str(store.path.parent / "bank.jsonl"))
    with pytest.raises(DataError, match="was built by the encoder 'bm25'"):
        build(store.path, [source], encoder=encoder)
    build(tmp_path / "vectors", [source], encoder=encoder)
    with pytest.raises(DataError, match="which is not 'bm25'"):
        found_in(Datastore.open(tmp_path / "vectors"))
    with pytest.raises(DataError, match="this one is 'bm25'"):
        build(tmp_path / "vectors", [source], encoder="bm25")


def test_the_recipe_retrieves_from_it(store: Datastore):
    shots = [Example(id=str(i), input=given, target=answer) for i, (given, answer) in enumerate(DESK.examples)]
    task = Task(instruction=DESK.instruction, kind="generation")
    nobody: Any = None  # is asked
    given = Given(task, nobody, shots, [], leaks=lambda text: "lost" in text)
    (row,) = retrieved(shots, given, Rebase(datastore=str(store.path), rows=1))
    assert (row.id, row.input, row.target) == ("rebase/bank:0", "Where is my new card?", "cards")


@pytest.mark.slow
def test_the_commands_need_no_model_and_no_torch(tmp_path: Path):
    """Built, added to and searched in a process of their own; no file has a vector in it."""
    (tmp_path / "bank.jsonl").write_text("".join(json.dumps(row) + "\n" for row in BANK))
    (tmp_path / "farm.jsonl").write_text(json.dumps({"animal": "cow"}) + "\n")
    commands = [
        ["build", "store", "bank.jsonl", "--encoder", "bm25"],
        ["add", "store", "farm.jsonl"],
        ["search", "store", DESK.instruction, "--example", *DESK.examples[0], "-k", "2", "--json"],
    ]
    script = (
        "import json, sys\nfrom understudy.cli import app\n"
        "for words in json.loads(sys.argv[1]): app(['datastore', *words], standalone_mode=False)\n"
        "sys.exit(' '.join({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)) or None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(commands)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index("\n[") :])
    assert [one["row"] for one in found] == [0, 1]
    store = Datastore.open(tmp_path / "store")
    assert [(store.encoder_name, store.width), len(store.datasets)] == [("bm25", 0), 2]
    files = {file.name for file in (tmp_path / "store" / "datasets").rglob("*.*") if file.is_file()}
    assert files == {"dataset.json", "rows.parquet", "cells.npy", "offsets.npy"}
    assert np.load(store.datasets[0].folder / "offsets.npy").tolist() == [0, 2, 4, 7, 9]
