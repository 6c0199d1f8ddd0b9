"""A training that ends when the loss on rows held back rises, broken off at any step and resumed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_causal, write_seq2seq
from transformers import AutoTokenizer

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.students import Trained, delivery, load_model, settings_model, train
from understudy.students.causal import rows_of
from understudy.students.early_stop import split
from understudy.students.packing import IGNORED
from understudy.students.settings import CausalSettings
from understudy.task import Task

TASK = Task(instruction="Name it.", kind="generation")
SCRATCH = {"architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 258}
EVERY, PATIENCE = 5, 2


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random GPT-2 of two layers, with dropout."""
    return write_causal("gpt2", tmp_path_factory.mktemp("base"), wide=0.02)


@pytest.fixture(autouse=True)
def _every_step_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "REPORT_EVERY_S", 0.0)


def noise(count: int) -> list[Example]:
    """Rows of which nothing can be learnt but the rows themselves."""
    draw = random.Random(0)
    text = lambda: "".join(draw.choices("abcdefgh", k=6))  # noqa: E731
    return [Example(id=str(i), input=text(), target=text()) for i in range(count)]


def settings(base: Any, **more: Any) -> CausalSettings:
    plain = {"base": base, "steps": 300, "batch_size": 8, "precision": "fp32", "threads": 1, "learning_rate": 1e-2}
    early = {"held_back": 0.3, "evaluate_every": EVERY, "patience": PATIENCE, "prompt": "bare"}
    return CausalSettings.model_validate(plain | early | more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def loss_of(folder: Path, rows: list[Example], plain: CausalSettings) -> float:
    """The mean loss a learnt token, one row at a time."""
    network: Any = load_model(folder).network  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for row in rows_of(rows, TASK, tokenizer, tokenizer.eos_token_id, plain, 512)[0]:
        learnt = sum(label != IGNORED for label in row["labels"])
        with torch.inference_mode():
            loss = network(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
        total, count = total + float(loss) * learnt, count + learnt
    return total / count


@pytest.mark.slow
def test_it_ends_when_the_loss_rises_and_keeps_the_best_weights(tmp_path: Path) -> None:
    rows, folder = noise(20), tmp_path / "model"
    trained = train(settings(SCRATCH), TASK, rows, folder, seed=1)
    kept = trained.details["held_back"]
    assert (trained.details["rows"], kept["rows"]) == (14, 6)
    assert trained.steps == kept["step"] + EVERY * PATIENCE < 300
    _, held = split([f"r{i}" for i in range(20)], 0.3, 1)
    assert loss_of(folder, [rows[i] for i in held], settings(SCRATCH)) == pytest.approx(kept["loss"], rel=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    card = (folder / "README.md").read_text("utf-8")
    assert f"- Kept: the weights after step {kept['step']}, with the lowest loss on 6 rows that were held back" in card
    assert train(settings(SCRATCH), TASK, rows, folder, seed=1) == trained


HUNDRED = [f"row {i}" for i in range(100)]


def test_which_rows_are_held_back_is_the_seeds_matter() -> None:
    learnt, held = split(HUNDRED, 0.2, 3)
    assert (len(learnt), len(held)) == (80, 20)
    assert sorted([*learnt, *held]) == list(range(100))
    assert split(HUNDRED, 0.2, 3)[1] == held != split(HUNDRED, 0.2, 4)[1]
    assert split(HUNDRED[:7], 0, 3) == (list(range(7)), [])
    assert len(split(HUNDRED[:3], 0.01, 0)[1]) == 1
    learnt, held = split([*HUNDRED[:10], *HUNDRED[:10]], 0.2, 3)  # two texts of each row
    assert [i % 10 for i in held[:2]] == [i % 10 for i in held[2:]]
    assert not {i % 10 for i in learnt} & {i % 10 for i in held}
    with pytest.raises(DataError, match=r"student.held_back: 0.2 of 1 row leaves none to train on; give more rows or"):
        split(HUNDRED[:1], 0.2, 0)


@pytest.mark.slow
def test_the_last_step_is_measured_too(tmp_path: Path) -> None:
    trained = train(settings(SCRATCH, steps=3), TASK, noise(20), tmp_path / "model")
    assert trained.steps == trained.details["held_back"]["step"] == 3
    none = train(settings(SCRATCH, steps=0), TASK, noise(20), tmp_path / "none" / "model")
    assert "held_back" not in none.details
    whole = train(settings(SCRATCH, steps=3, held_back=0), TASK, noise(20), tmp_path / "whole" / "model")
    assert (whole.steps, whole.details["rows"], "held_back" in whole.details) == (3, 20, False)


@pytest.mark.slow
def test_where_no_loss_is_a_number_it_ends_and_says_so(tmp_path: Path) -> None:
    wild = settings(SCRATCH, learning_rate=1e30, warmup=0)
    trained = train(wild, TASK, noise(20), tmp_path / "model")
    assert trained.steps == EVERY * PATIENCE
    assert trained.details["held_back"]["loss"] != trained.details["held_back"]["loss"]


KINDS: dict[str, dict[str, Any]] = {
    "packed": {},
    "lora": {"lora": {"dropout": 0.1}, "learning_rate": 5e-2},
    "grouped": {"packing": False, "gradient_accumulation": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_broken_off_at_any_step_it_ends_with_the_same_weights(kind: str, base: str, tmp_path: Path) -> None:
    sparse = {"save_strategy": "steps", "save_steps": 7}  # so that weights are kept that no checkpoint tells of yet
    plain = settings(base, checkpoint_every_s=1e9, trainer=sparse, **KINDS[kind])
    rows, whole = noise(24), tmp_path / "whole" / "model"
    unbroken = train(plain, TASK, rows, whole, seed=3)
    best = unbroken.details["held_back"]["step"]
    assert unbroken.steps == best + EVERY * PATIENCE

    def broken_at(step: int, folder: Path) -> None:
        def stop(what: str, done: int, total: int) -> None:
            if done == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(plain, TASK, rows, folder, seed=3, progress=stop)
        assert not folder.exists()

    folder = tmp_path / "broken" / "model"
    for step in (best, best + 1, unbroken.steps):  # the last: it has decided to end
        broken_at(step, folder)
    resumed = train(plain, TASK, rows, folder, seed=3)
    same(resumed, unbroken)
    one, other = weights(whole), weights(folder)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert {path.name for path in folder.parent.iterdir()} == {"model"}


def same(one: Trained, other: Trained) -> None:
    assert (one.steps, one.tokens, one.details) == (other.steps, other.tokens, other.details)


@pytest.mark.slow
def test_checkpoints_by_the_clock_keep_one_set_of_weights(base: str, tmp_path: Path) -> None:
    seen: set[tuple[int, int]] = set()

    def look(what: str, done: int, total: int) -> None:
        checkpoint = tmp_path / "checkpoint"
        seen.add((len([*checkpoint.glob("best-*")]), len([*checkpoint.glob("checkpoint-*")])))

    often = settings(base, checkpoint_every_s=0)
    trained = train(often, TASK, noise(24), tmp_path / "model", seed=3, progress=look)
    assert trained.details["held_back"]["step"] > 0
    assert max(best for best, _ in seen) == 2  # a new one, until a checkpoint tells of it
    seldom = train(settings(base), TASK, noise(24), tmp_path / "seldom" / "model", seed=3)
    same(trained, seldom)
    one, other = weights(tmp_path / "model"), weights(tmp_path / "seldom" / "model")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_an_encoder_decoder_ends_early_too(tmp_path: Path) -> None:
    t5 = write_seq2seq("t5", tmp_path / "t5")
    plain = settings(t5).model_dump(exclude={"kind", "loss_on", "packing", "lines", "measurements"})
    early = settings_model("seq2seq").model_validate(plain | {"learning_rate": 3e-2})
    trained = train(early, TASK, noise(20), tmp_path / "model", seed=1)
    assert trained.steps == trained.details["held_back"]["step"] + EVERY * PATIENCE < 300


def test_settings() -> None:
    from understudy.settings import validate

    for wrong in ({"held_back": 0.6}, {"held_back": -0.1}, {"patience": 0}, {"evaluate_every": 0}):
        with pytest.raises(SettingsError, match=f"student.{next(iter(wrong))}"):
            validate(CausalSettings, {"base": SCRATCH, **wrong}, "student")
