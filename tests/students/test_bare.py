"""A student that learns texts with nothing around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import END, write_causal, write_seq2seq

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.settings import validate
from understudy.students import load_model, train
from understudy.students.causal import open_base, rows_of
from understudy.students.packing import IGNORED
from understudy.students.seq2seq import open_base as open_seq2seq
from understudy.students.seq2seq import pairs_of
from understudy.students.serial import bare_of
from understudy.students.settings import CausalSettings, Seq2SeqSettings
from understudy.task import Fields, Task

WRITE = Task(instruction="Go on.", kind="generation")
SCRATCH = {"architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}
ROW = Example(id="a", input="### Task: t\n### Output:\n", target=" two\nlines ", notes={"explanations": "Why?"})


def settings(base: Any, **more: Any) -> CausalSettings:
    plain = {"base": base, "precision": "fp32", "threads": 1, "learning_rate": 5e-3, "prompt": "bare"}
    return CausalSettings.model_validate(plain | more)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random Llama of two layers, a token a byte; its stop token is 0."""
    return write_causal("llama", tmp_path_factory.mktemp("base"), wide=0.02)


@pytest.mark.parametrize("loss_on", ["all", "target"])
def test_what_is_learnt_of_a_row_to_the_token(base: str, loss_on: str) -> None:
    plain = settings(base, loss_on=loss_on)
    _, tokenizer = open_base(plain, ())
    (row,), cut = rows_of([ROW], WRITE, tokenizer, 0, plain, 512)
    given, written = (tokenizer(text)["input_ids"] for text in (ROW.input, str(ROW.target)))
    assert row["input_ids"] == [*given, *written, 0]
    assert tokenizer.decode(row["input_ids"]) == f"### Task: t\n### Output:\n two\nlines {END}"
    before = given[1:] if loss_on == "all" else [IGNORED] * (len(given) - 1)
    assert row["labels"] == [IGNORED, *before, *written, 0]
    assert cut == 0


def test_of_a_long_row_the_last_tokens_are_kept(base: str) -> None:
    plain = settings(base, max_length=8)
    _, tokenizer = open_base(plain, ())
    (row,), cut = rows_of([ROW], WRITE, tokenizer, 0, plain, 8)
    assert tokenizer.decode(row["input_ids"]) == f"\nlines {END}"
    assert row["labels"] == [IGNORED, *row["input_ids"][1:]]
    assert cut == 1


def test_what_other_targets_become() -> None:
    topics = WRITE.model_copy(update={"kind": "multilabel"})
    assert bare_of(ROW.replace(target=("a", "b")), topics) == (ROW.input, "a, b")
    assert bare_of(ROW.replace(target=("first", "second")), WRITE) == (ROW.input, "first")
    options = ROW.replace(choices=("x", "y"), target="y")
    assert bare_of(options, Task(instruction="?", kind="choice", fields=Fields(choices="o"))) == (ROW.input, "y")
    with pytest.raises(DataError, match="'a': a row without a target"):
        bare_of(ROW.replace(target=None), WRITE)


@pytest.mark.slow
def test_it_writes_lines_up_to_the_stop_token(tmp_path: Path) -> None:
    texts = {"cat": "purrs\nand sleeps\n", "dog": "barks", "hen": " clucks "}
    rows = [Example(id=name, input=f"{name}:", target=text) for name, text in texts.items()]
    train(settings(SCRATCH, steps=120, batch_size=3), WRITE, rows, tmp_path / "model")
    model: Any = load_model(tmp_path / "model")
    assert [p.output for p in model.predict(row.input for row in rows)] == [*texts.values()]
    assert [p.output for p in model.predict(rows)] == [*texts.values()]
    with pytest.raises(DataError, match="input '': there are no tokens to go on from; give it an input"):
        list(model.predict(["cat:", ""]))
    assert json.loads((tmp_path / "model" / "student.json").read_text("utf-8"))["bare"] is True
    assert "It reads a text with nothing around it, and goes on." in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.slow
def test_labels_are_written_and_not_ranked(tmp_path: Path) -> None:
    labels = Task(instruction="Sort.", kind="classification", labels=["animal", "tool"])  # pyright: ignore[reportArgumentType]
    rows = [Example(id=str(i), input=f"{word} is: ", target=kind)
            for i, (word, kind) in enumerate({"cow": "animal", "axe": "tool"}.items())]  # fmt: skip
    train(settings(SCRATCH, steps=80, batch_size=2), labels, rows, tmp_path / "model")
    predictions = list(load_model(tmp_path / "model").predict(rows))
    assert [(p.output, p.scores) for p in predictions] == [("animal", {}), ("tool", {})]


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_reads_the_input_and_writes_the_target(family: str, tmp_path: Path) -> None:
    plain = Seq2SeqSettings.model_validate({"base": write_seq2seq(family, tmp_path), "prompt": "bare"})
    _, tokenizer = open_seq2seq(plain, ())
    row = ROW.replace(input="name[Aroma]", target="Aroma is a place.")
    (pair,), questions, written = pairs_of([row], WRITE, tokenizer, tokenizer.eos_token_id, plain, (512, 512))
    assert pair["input_ids"] == tokenizer("name[Aroma]")["input_ids"]
    assert pair["labels"] == tokenizer(text_target="Aroma is a place.")["input_ids"]
    assert (questions, written) == (0, 0)


def test_shots_do_not_go_with_it() -> None:
    with pytest.raises(SettingsError, match="shots: they stand in prompts with the instruction"):
        validate(CausalSettings, {"base": SCRATCH, "prompt": "bare", "shots": 2}, "student")
