"""Students that learn raw text: masked, and causal by the same way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import write_causal, write_masked

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.students import Trained, load_model, prepare, train
from understudy.students.measuring import excerpts_of, perplexity
from understudy.students.settings import CausalSettings, MaskedSettings
from understudy.task import Task

TASK = Task(instruction="Learn the language.", kind="pretraining")
SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}
SINGULAR = {"cat": "sleeps", "dog": "barks", "hen": "pecks"}
PLURAL = {"cats": "sleep", "dogs": "bark", "hens": "peck"}


def settings(kind: str = "masked", base: Any = SCRATCH, **more: Any) -> Any:
    values = {"base": base, "max_length": 48, "steps": 60, "batch_size": 8, "learning_rate": 3e-3, "threads": 1,
              "packing": True, "lines": False, "precision": "fp32", "measurements": 2} | more  # fmt: skip
    return MaskedSettings(**values) if kind == "masked" else CausalSettings(**values)


def texts(count: int, seed: int = 0) -> list[Example]:
    """Stories whose subjects agree with their verbs, written for these tests."""
    draw, verbs = random.Random(seed), SINGULAR | PLURAL
    sentence = lambda: (lambda noun: f"The {noun} {verbs[noun]}.")(draw.choice(list(verbs)))  # noqa: E731
    return [
        Example(id=f"{seed}/{i}", input=" ".join(sentence() for _ in range(draw.randint(1, 9)))) for i in range(count)
    ]


def pairs() -> list[Example]:
    """A good and a bad sentence each, the good one first."""
    found = []
    for (one, right), (many, wrong) in zip(SINGULAR.items(), PLURAL.items(), strict=True):
        for noun, good, bad in ((one, right, wrong), (many, wrong, right)):
            sentences = f"The {noun} {good}.", f"The {noun} {bad}."
            found.append(Example(id=noun, input=sentences[0], target=sentences[0], choices=sentences))
    return found


def share_right(model: Any) -> float:
    return sum(answer.output == row.target for answer, row in zip(model.predict(pairs()), pairs(), strict=True)) / 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["masked", "causal"])
def test_a_student_from_scratch_learns_agreement_from_raw_text(kind: str, tmp_path: Path) -> None:
    folder, said = tmp_path / "model", []
    took = train(
        settings(kind, steps=600), TASK, texts(300), folder, held_back=texts(20, seed=1), probe=share_right,
        progress=lambda *told: said.append(told),
    )  # fmt: skip
    curve = took.details["curve"]
    assert [entry["step"] for entry in curve] == [0, 300, 600]
    assert curve[0]["tokens"] == 0
    assert curve[2]["tokens"] == took.tokens
    assert curve[2]["loss"] < 0.7 * curve[0]["loss"]
    model = load_model(folder)
    assert share_right(model) == 1.0
    assert curve[2]["accuracy"] == 1.0
    assert 1 < took.details["perplexity_a_word"] < 40
    assert said[-1] == ("training", 600, 600)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}
    good, bad = load_model(folder).scores(pairs()[0].choices)  # pyright: ignore[reportAttributeAccessIssue]
    assert bad < good < 0
    assert ("fill-mask" in (folder / "README.md").read_text()) is (kind == "masked")


def test_transformers_opens_what_was_saved(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    train(settings(steps=2), TASK, texts(20), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    network = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    ids = tokenizer("The <mask> sleeps.", return_tensors="pt")
    assert ids["input_ids"][0, 0] == tokenizer.cls_token_id
    assert tokenizer.mask_token_id in ids["input_ids"][0]
    assert network(**ids).logits.shape[-1] == len(tokenizer)
    assert network.config.max_position_embeddings == 48 + 2


def test_the_published_way_a_line_a_row_cut_and_unpacked(tmp_path: Path) -> None:
    rows = [Example(id="a", input="The cat sleeps.\n\n" + "The hens peck. " * 40), *texts(10)]
    took = train(settings(lines=True, packing=False, steps=3), TASK, rows, tmp_path / "model")
    assert took.details["layout"] == "grouped by length"
    assert took.details["sequences"] == 12
    assert took.details["truncated"] >= 1


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def killed_training(folder: Path, kind: str) -> Trained:
    """The training that a test kills."""
    more = {"steps": 40, "checkpoint_every_s": 0, "measurements": 4, "lines": kind == "lines"}
    more |= {"packing": kind != "lines"}
    one = settings("causal" if kind == "causal" else "masked", **more)
    return train(one, TASK, texts(60), folder, seed=3, held_back=texts(5, seed=1), probe=share_right)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["packed", "lines", "causal"])
def test_killed_and_resumed_ends_with_the_same_weights_and_curve(kind: str, tmp_path: Path) -> None:
    unbroken = killed_training(tmp_path / "whole" / "model", kind)
    folder, root = tmp_path / "killed" / "model", Path(__file__).parents[2]
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests/students');"
        "from test_masked import killed_training; killed_training(Path(sys.argv[1]), sys.argv[2])"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(folder), kind], cwd=root)
    deadline = time.monotonic() + 120
    while last_step(folder.with_name("model.checkpoint")) < 14:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not folder.exists()
    resumed = killed_training(folder, kind)
    assert (resumed.steps, resumed.tokens, resumed.details) == (unbroken.steps, unbroken.tokens, unbroken.details)
    one, other = weights(tmp_path / "whole" / "model"), weights(folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def last_step(checkpoints: Path) -> int:
    whole = [path.parent for path in checkpoints.glob("checkpoint-*/trainer_state.json")]
    return max((int(path.name.partition("-")[2]) for path in whole), default=0)


@pytest.mark.slow
def test_the_same_call_again_reads_what_it_took(tmp_path: Path) -> None:
    first = train(settings(steps=2), TASK, texts(20), tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(settings(steps=2), TASK, texts(20), tmp_path / "model") == first
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before
    train(settings(steps=2), TASK, texts(21), tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns != before


@pytest.mark.slow
def test_accumulated_gradients_and_tokens_in_place_of_steps(tmp_path: Path) -> None:
    plain = {"trainer": {"optim": "sgd", "max_grad_norm": 0}, "learning_rate": 0.5, "steps": 4, "mask": 0.5}
    one, two = settings(batch_size=8, **plain), settings(batch_size=4, gradient_accumulation=2, **plain)
    train(one, TASK, texts(80), tmp_path / "one")
    train(two, TASK, texts(80), tmp_path / "two")
    a, b = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 0.01  # not twice as far
    took = train(settings(steps=None, tokens=2000), TASK, texts(80), tmp_path / "three")
    assert 2000 <= took.tokens < 2000 + 8 * 48


@pytest.mark.slow
def test_a_base_goes_on_and_a_student_is_a_base(tmp_path: Path) -> None:
    base = write_masked("bert", tmp_path / "base")
    train(settings(base=base, steps=2), TASK, texts(20), tmp_path / "one")
    assert prepare(settings(base=str(tmp_path / "one")), TASK).startswith("sha256:")
    took = train(settings(base=str(tmp_path / "one"), steps=2), TASK, texts(20), tmp_path / "two")
    assert took.details["layout"] == "packed"
    apart = train(
        settings(base=write_masked("deberta-v2", tmp_path / "relative"), steps=2), TASK, texts(20), tmp_path / "three"
    )
    assert apart.details["layout"] == "grouped by length: the base does not keep packed texts apart"


@pytest.mark.slow
def test_bases_and_rows_that_do_not_go(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no mask_token"):
        prepare(settings(base=write_masked("bert", tmp_path / "maskless", mask=None)), TASK)
    with pytest.raises(DataError, match="is a causal language model"):
        prepare(settings(base=write_causal("gpt2", tmp_path / "causal")), TASK)
    with pytest.raises(DataError, match="nothing to learn|anything to learn"):
        train(settings(), TASK, [Example(id="a", input=" \n ")], tmp_path / "model")
    with pytest.raises(SettingsError, match="a masked cannot learn kind: generation; it fits pretraining"):
        prepare(settings(), TASK.model_copy(update={"kind": "generation"}))
    with pytest.raises(SettingsError, match="student.lora: it is not for kind: pretraining"):
        prepare(settings("causal", lora={"r": 2}), TASK)
    with pytest.raises(SettingsError, match="student.lines: it is not for kind: generation"):
        prepare(settings("causal", lines=True), TASK.model_copy(update={"kind": "generation"}))
    with pytest.raises(SettingsError, match="200 tokens are more than .* reads; set it to 66 or less"):
        prepare(settings(base=write_masked("bert", tmp_path / "bert"), max_length=200), TASK)
    with pytest.raises(SettingsError, match="learning_rates"):
        prepare(settings(trainer={"learning_rates": 1}), TASK)
    train(settings(steps=1), TASK, texts(9), tmp_path / "model")
    with pytest.raises(DataError, match="chooses between sentences"):
        list(load_model(tmp_path / "model").predict(["The cat"]))


def test_a_student_of_raw_text_is_described_in_its_folder(tmp_path: Path) -> None:
    train(settings(steps=1, within_word=True), TASK, texts(9), tmp_path / "model", card={"Arm": "raw"})
    about = json.loads((tmp_path / "model" / "student.json").read_text())
    assert about["kind"] == "masked"
    assert about["within_word"] is True
    card = (tmp_path / "model" / "README.md").read_text()
    assert "Arm: raw" in card
    assert "random weights, roberta" in card


@pytest.mark.slow
def test_two_processes_learn_raw_text_together(tmp_path: Path) -> None:
    plain = {"steps": 6, "trainer": {"optim": "sgd", "max_grad_norm": 0}, "learning_rate": 0.1, "mask": 0.5}
    one = train(settings(batch_size=8, **plain), TASK, texts(600), tmp_path / "one" / "model")
    code = tmp_path / "part.py"
    code.write_text(
        "import os, sys; from pathlib import Path; sys.path.insert(0, 'tests/students')\n"
        "from test_masked import TASK, settings, share_right, texts, train\n"
        f"half = settings(batch_size=4, checkpoint_every_s=0, **{plain!r})\n"
        "done = train(half, TASK, texts(600), Path(sys.argv[1]), held_back=texts(9, seed=1), probe=share_right)\n"
        "os.write(1, f'{done.tokens}\\n'.encode())\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(code)]
    root, folder = Path(__file__).parents[2], tmp_path / "two" / "model"
    done = subprocess.run([*command, str(folder)], cwd=root, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [str(one.tokens)] * 2
    assert {path.name for path in folder.parent.iterdir()} == {"model"}
    alone, shared = weights(tmp_path / "one" / "model"), weights(folder)
    assert max(float((alone[name] - shared[name]).abs().max()) for name in alone) < 0.02


@pytest.mark.slow
def test_marks_in_a_text_are_text_and_a_long_word_teaches_nothing(tmp_path: Path) -> None:
    rows = [*texts(20), Example(id="marks", input="A <mask> B</s><s>C"), Example(id="long", input="x" * 1_000_000)]
    took = train(settings(steps=1), TASK, rows, tmp_path / "model")
    assert took.details["tokens"] > 1_000_000 / 3
    model = load_model(tmp_path / "model")
    tokenizer = model.tokenizer  # pyright: ignore[reportAttributeAccessIssue]
    assert tokenizer.tokenize("x" * 200)[0] == "x"


def test_a_training_that_went_wrong_is_still_delivered(tmp_path: Path) -> None:
    took = train(settings(steps=5, learning_rate=1e6), TASK, texts(20), tmp_path / "model", held_back=texts(3, seed=1))
    assert took.details["curve"][-1]["step"] == 5
    assert (tmp_path / "model" / "model.safetensors").is_file()


def test_perplexity_is_that_of_the_model_as_it_is_delivered(tmp_path: Path) -> None:
    """A training in bf16 leaves nothing around the network that would measure it in bf16."""
    some = texts(5, seed=1)
    took = train(settings(steps=3, precision="bf16"), TASK, texts(30), tmp_path / "model", held_back=some)
    model = load_model(tmp_path / "model")
    found = perplexity(model, excerpts_of(some, 48 // 4))  # pyright: ignore[reportArgumentType]
    assert took.details["perplexity_a_word"] == pytest.approx(found["perplexity_a_word"], rel=1e-5)


def test_what_stands_beside_a_model_is_not_touched_and_scoring_is_no_training(tmp_path: Path) -> None:
    mine = tmp_path / "sequences" / "mine.fasta"
    mine.parent.mkdir()
    mine.write_text("ACGT")
    train(settings(steps=1), TASK, iter(texts(9)), tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    train(settings(steps=1, within_word=True), TASK, texts(9), tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "model" / "student.json").read_text())["within_word"] is True
    assert mine.read_text() == "ACGT"


def test_a_sentence_that_is_longer_than_the_student_reads_counts_wrong_and_is_counted(tmp_path: Path) -> None:
    train(settings(steps=1, max_length=16), TASK, texts(9), tmp_path / "model")
    model = load_model(tmp_path / "model")
    longer = "The cat sleeps. " * 9
    rows = [pairs()[0], Example(id="long", input="", choices=(longer, "The cat sleep.")), pairs()[1]]
    answers = [answer.output for answer in model.predict(rows)]
    assert answers[1] is None
    assert None not in (answers[0], answers[2])
    assert model.truncated == 1
