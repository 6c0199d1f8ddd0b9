"""The causal student: trained on tiny models, broken off, resumed, opened by transformers."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import FAMILIES, write_causal
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.settings import validate
from understudy.students import Trained, load_model, prepare, settings_model, train
from understudy.students.causal import open_base, rows_of
from understudy.students.packing import IGNORED
from understudy.students.settings import CausalSettings, Seq2SeqSettings
from understudy.task import Fields, Task

ANIMALS = ["cat", "dog", "cow", "hen", "fox", "owl", "bee", "ant"]
TOOLS = ["saw", "axe", "pen", "nail", "rope", "fork", "bolt", "key"]
CHOICE = Task(instruction="Choose.", kind="choice", fields=Fields(choices="options"))
LABELS = Task(instruction="Sort.", kind="classification", labels=["animal", "tool"])
COPY = Task(instruction="Copy.", kind="generation")
SCRATCH = {"architecture": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random Llama of two layers, without a padding token."""
    return write_causal("llama", tmp_path_factory.mktemp("base"), wide=0.02)


def settings(base: Any, **more: Any) -> CausalSettings:
    plain = {"base": base, "steps": 10, "batch_size": 8, "precision": "fp32", "threads": 1, "learning_rate": 5e-3}
    return CausalSettings.model_validate(plain | more)


def choices(count: int, seed: int = 0) -> list[Example]:
    """Which of two words is an animal; the reason is given."""
    draw, made = random.Random(seed), []
    for i in range(count):
        animal, options = draw.choice(ANIMALS), [draw.choice(TOOLS)]
        options.insert(draw.randrange(2), animal)
        why = {"explanations": f"A {animal} is alive."}
        made.append(Example(id=str(i), input="Animal?", choices=tuple(options), target=animal, notes=why))
    return made


def words(count: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)
    kinds = [draw.choice(["animal", "tool"]) for _ in range(count)]
    return [
        Example(id=str(i), input=draw.choice(ANIMALS if kind == "animal" else TOOLS), target=kind)
        for i, kind in enumerate(kinds)
    ]


def share_right(model: Any, test: list[Example]) -> float:
    return sum(p.output == row.target for p, row in zip(model.predict(test), test, strict=True)) / len(test)


@pytest.mark.slow
def test_a_student_from_scratch_learns_to_choose_and_transformers_opens_it(tmp_path: Path) -> None:
    folder, seen = tmp_path / "seed-0" / "model", []
    trained = train(
        settings(SCRATCH, steps=120), CHOICE, iter(choices(60)), folder, seed=0,
        progress=lambda *done: seen.append(done), card={"Arm": "gold"},
    )  # fmt: skip
    assert {path.name for path in folder.parent.iterdir()} == {"model"}
    assert (trained.steps, trained.details) == (120, {"rows": 60, "truncated": 0, "layout": "packed"})
    assert seen[-1] == ("training", 120, 120)
    model, test = load_model(folder), choices(40, seed=1)
    assert share_right(model, test) > 0.9
    prediction = next(model.predict(test))
    assert set(prediction.scores) == set(test[0].choices)
    assert sum(prediction.scores.values()) == pytest.approx(1)

    network: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert network.num_parameters() == trained.parameters
    ids = tokenizer("Q: Animal? (A) axe (B) cow\nA:", return_tensors="pt")
    text = tokenizer.decode(network.generate(**ids, max_new_tokens=40)[0])
    assert text == "Q: Animal? (A) axe (B) cow\nA: The answer is (B).\nA cow is alive.<|end|>"

    card = (folder / "README.md").read_text("utf-8")
    assert "- Arm: gold" in card
    assert "- Training rows: 60" in card
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(tmp_path) not in path.read_text("utf-8")


@pytest.mark.slow
def test_labels_are_ranked_and_texts_are_written(tmp_path: Path) -> None:
    scratch = SCRATCH | {"architecture": "gpt2"}
    train(settings(scratch, steps=120), LABELS, words(60), tmp_path / "labels" / "model", seed=0)
    model = load_model(tmp_path / "labels" / "model")
    assert share_right(model, words(40, seed=1)) > 0.9
    assert [p.output for p in model.predict(["owl", "axe" * 400, "key"])][::2] == ["animal", "tool"]

    rows = [row.replace(target=f"my {row.input}", notes={"explanations": "said so"}) for row in words(60)]
    train(settings(scratch, steps=200), COPY, rows, tmp_path / "copy" / "model", seed=0)
    assert share_right(load_model(tmp_path / "copy" / "model"), rows) > 0.9

    many = LABELS.model_copy(update={"kind": "multilabel"})
    both = [row.replace(input=f"{row.input} pen", target=("animal", "tool") if row.target == "animal" else ("tool",))
            for row in words(60)]  # fmt: skip
    train(settings(scratch, steps=120), many, both, tmp_path / "many" / "model", seed=0)
    assert share_right(load_model(tmp_path / "many" / "model"), both) > 0.9


@pytest.mark.slow
def test_a_student_that_reads_instruction_and_examples(tmp_path: Path) -> None:
    rows, folder = choices(200), tmp_path / "model"
    told = settings(SCRATCH, steps=150, batch_size=16, prompt="instruction", shots=2)
    train(told, CHOICE, rows, folder, shots=rows[:2])
    preface = json.loads((folder / "student.json").read_text())["preface"]
    assert preface.startswith("### Instruction:\nChoose.\n\n### Examples:\nInput: Animal? (A) ")
    assert preface.count("Response: The answer is (") == 2
    assert "`preface`" in (folder / "README.md").read_text()
    assert share_right(load_model(folder), choices(100, seed=1)) > 0.8
    with pytest.raises(SettingsError, match="add prompt: instruction"):
        train({"kind": "causal", "base": SCRATCH, "shots": 2}, CHOICE, rows, tmp_path / "other")


@pytest.mark.parametrize("loss_on", ["all", "target"])
def test_what_is_learnt_of_a_row(base: str, loss_on: str) -> None:
    plain = settings(base, loss_on=loss_on)
    network, tokenizer = open_base(plain, ())
    (row,), cut = rows_of(choices(1), CHOICE, tokenizer, 0, plain, 512)
    text = tokenizer.decode(row["input_ids"])
    assert text == "Q: Animal? (A) bee (B) bolt\nA: The answer is (A).\nA bee is alive.<|end|>"
    learnt = [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED]
    assert tokenizer.decode(learnt) == (text[1:] if loss_on == "all" else text.partition("A:")[2])
    assert row["labels"][-1] == row["input_ids"][-1] == tokenizer.eos_token_id
    assert cut == 0


@pytest.mark.slow
def test_of_a_long_row_the_last_tokens_are_kept_and_it_is_counted(base: str, tmp_path: Path) -> None:
    plain = settings(base, max_length=16, steps=2)
    _, tokenizer = open_base(plain, ())
    long = words(2) + [Example(id="long", input="a " * 10_000, target="tool")]
    rows, cut = rows_of(long, LABELS, tokenizer, 0, plain, 16)
    assert tokenizer.decode(rows[2]["input_ids"]) == "answer is tool.<|end|>"
    assert max(len(row["input_ids"]) for row in rows) == 16
    assert cut == 3
    trained = train(plain, LABELS, long, tmp_path / "model", seed=0)
    assert trained.details["truncated"] == 3
    model = load_model(tmp_path / "model")
    assert len(list(model.predict([*long, "owl"]))) == 4
    assert model.truncated == 4  # the lead to the answer counts too


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_trains_and_answers(family: str, tmp_path: Path) -> None:
    origin = write_causal(family, tmp_path / "base")
    trained = train(settings(origin, steps=3), CHOICE, choices(20), tmp_path / "model", seed=0)
    packs = "grouped by length: the base does not keep packed rows apart" if family == "bloom" else "packed"
    assert trained.details["layout"] == packs
    model = load_model(tmp_path / "model")
    asked = [*choices(5), "What is it?"]
    assert len(list(model.predict(asked))) == 6
    text = settings(origin, steps=3, rank_by="text", packing=False, gradient_accumulation=2)
    trained = train(text, CHOICE, choices(20), tmp_path / "text" / "model", seed=0)
    assert trained.details["layout"].startswith("grouped by length")
    assert {p.output for p in load_model(tmp_path / "text" / "model").predict(choices(5))} <= {*ANIMALS, *TOOLS}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_packed_or_not_the_weights_are_the_same(base: str, tmp_path: Path) -> None:
    rows = [row.replace(notes={}) for row in choices(24)]
    for packing in (True, False):
        more = {"packing": packing, "batch_size": 24, "steps": 5, "learning_rate": 1e-4}
        train(settings(base, **more), CHOICE, rows, tmp_path / str(packing) / "model", seed=0)
    one, other = (weights(tmp_path / name / "model") for name in ("True", "False"))
    assert all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)


@pytest.mark.slow
def test_lora_trains_adapters_and_delivers_a_whole_model(base: str, tmp_path: Path) -> None:
    lora = settings(base, steps=30, lora={"r": 4, "targets": ["q_proj", "v_proj"]})
    trained = train(lora, CHOICE, choices(20), tmp_path / "model", seed=0)
    assert trained.details["trained_parameters"] < trained.parameters / 10
    before, after = load_file(Path(base) / "model.safetensors"), weights(tmp_path / "model")
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "v_proj"}
    with pytest.raises(SettingsError, match=r"no layer 'q_prj'. Did you mean 'q_proj'\? Known: "):
        prepare(settings(base, lora={"targets": ["q_prj"]}), CHOICE)
    gpt2 = write_causal("gpt2", tmp_path / "gpt2")  # its output layer is its embedding
    with pytest.raises(SettingsError, match="targets: 'lm_head' shares its weights with another layer"):
        prepare(settings(gpt2, lora={"targets": ["c_attn", "lm_head"]}), CHOICE)
    every = settings(gpt2, steps=2, lora={})
    assert train(every, CHOICE, choices(20), tmp_path / "every" / "model", seed=0).details["trained_parameters"] > 0


@pytest.mark.slow
def test_steps_tokens_and_transformers_own_arguments(base: str, tmp_path: Path) -> None:
    def trained(name: str, **more: Any) -> Trained:
        return train(settings(base, **more), LABELS, words(20), tmp_path / name / "model", seed=0)

    five = trained("five", steps=5)
    assert five.steps == 5
    assert trained("tokens", steps=None, tokens=five.tokens).steps == 5
    assert trained("more", steps=None, tokens=five.tokens + 1).steps == 6
    assert trained("none", steps=0).tokens == 0
    assert trained("bf16", steps=2, precision="bf16").steps == 2
    assert trained("epochs", trainer={"num_train_epochs": 2}).steps == 6
    assert trained("two", steps=2, gradient_accumulation=2).steps == 2
    assert trained("two", trainer={"max_steps": 2, "optim": "adafactor", "per_device_train_batch_size": 3}).steps == 2
    with pytest.raises(SettingsError, match=r"student.trainer.lerning_rate: unknown key. Did you mean 'learning_rate'"):
        trained("bad", trainer={"lerning_rate": 1})
    with pytest.raises(SettingsError, match="student.trainer.output_dir: checkpoints stand beside the model"):
        prepare(settings(base, trainer={"output_dir": "x"}), LABELS)
    with pytest.raises(SettingsError, match="student.trainer: sometimes is not a valid"):
        prepare(settings(base, trainer={"save_strategy": "sometimes"}), LABELS)
    with pytest.raises(SettingsError, match="student.trainer.eval_strategy: a training sees no rows but its own"):
        prepare(settings(base, trainer={"eval_strategy": "steps"}), LABELS)
    with pytest.raises(SettingsError, match="student.trainer: wandbee is not supported, only "):
        prepare(settings(base, report_to="wandbee"), LABELS)
    with pytest.raises(SettingsError, match="student.trainer: .*rapid"):
        prepare(settings(base, trainer={"learning_rate": "rapid"}), LABELS)
    assert trained("text", trainer={"learning_rate": "1e-4", "max_steps": "2"}).steps == 2  # YAML's 1e-4 is a text
    dropped = {"num_train_epochs": 1, "dataloader_drop_last": True}
    assert trained("dropped", trainer=dropped).tokens == trained("two of three", steps=2).tokens


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("train_sampling_strategy", "group_by_length", "rows come shuffled by the seed and the epoch"),
        ("dataloader_persistent_workers", True, "its workers would keep the first epoch's order"),
    ],
)
def test_the_order_of_the_rows_is_not_transformers_to_choose(base: str, name: str, value: Any, why: str) -> None:
    with pytest.raises(SettingsError, match=rf"student.trainer.{name}: {why}.*; take this key out"):
        prepare(settings(base, trainer={name: value}), LABELS)


@pytest.mark.slow
def test_what_is_logged_for_tensorboard_stays_beside_the_model(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SummaryWriter:
        def __init__(self, log_dir: str) -> None:
            self.log = Path(log_dir) / "events"
            self.log.parent.mkdir(parents=True, exist_ok=True)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            with self.log.open("a") as log:
                log.write(f"{step} {name}\n")

        def add_text(self, *_: Any) -> None: ...
        def flush(self) -> None: ...
        def close(self) -> None: ...

    tensorboard = ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(tensorboard, "SummaryWriter", SummaryWriter, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", tensorboard)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_tensorboard_available", lambda: True)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    folder = tmp_path / "seed-0" / "model"
    train(settings(base, report_to="tensorboard"), LABELS, words(20), folder, seed=0)
    assert {path.name for path in folder.parent.iterdir()} == {"model", "runs"}
    assert "10 train/loss" in (folder.parent / "runs" / "events").read_text()


@pytest.mark.slow
def test_what_a_base_was_published_to_write_with_does_not_count(tmp_path: Path) -> None:
    base = Path(write_causal("llama", tmp_path / "base", wide=0.02))
    sampled = {"do_sample": True, "repetition_penalty": 1.5, "min_length": 30, "no_repeat_ngram_size": 2}
    (base / "generation_config.json").write_text(json.dumps(sampled | {"eos_token_id": [0, 5]}))
    rows = [row.replace(target="aaaaaaaa" if row.target == "animal" else "bbbbbbbb") for row in words(60)]
    train(settings(str(base), steps=120), COPY, rows, tmp_path / "model", seed=0)
    assert share_right(load_model(tmp_path / "model"), rows) > 0.9
    told = json.loads((tmp_path / "model" / "generation_config.json").read_text("utf-8"))
    assert told["eos_token_id"] == 0
    assert not told.keys() & sampled.keys()

    about = tmp_path / "model" / "student.json"  # an answer may be as long as the base has positions
    about.write_text(json.dumps(json.loads(about.read_text("utf-8")) | {"max_new_tokens": 300}))
    model = load_model(tmp_path / "model")
    assert share_right(model, rows) > 0.9
    assert model.truncated == 0


def test_equal_options_share_a_score_and_one_that_is_too_long_is_named(base: str, tmp_path: Path) -> None:
    train(settings(base, steps=2, rank_by="text"), CHOICE, choices(8), tmp_path / "model", seed=0)
    model = load_model(tmp_path / "model")
    prediction = next(model.predict([choices(1)[0].replace(choices=("bee", "bee", "saw"))]))
    assert sum(prediction.scores.values()) == pytest.approx(1)
    long = choices(1)[0].replace(id="long", choices=("bee", "b" * 10_000))
    with pytest.raises(DataError, match="^example 'long': a prompt of .* cut [0-9]+ tokens off$"):
        list(model.predict(["What?", *choices(3), long]))


@pytest.mark.slow
def test_the_same_call_again_reads_what_it_took_and_draws_are_left_alone(base: str, tmp_path: Path) -> None:
    random.seed(1)
    torch.manual_seed(1)
    drawn = random.random(), float(torch.rand(1))
    random.seed(1)
    torch.manual_seed(1)
    first = train(settings(base), LABELS, words(20), tmp_path / "model", seed=0)
    assert (random.random(), float(torch.rand(1))) == drawn
    when = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(settings(base), LABELS, words(20), tmp_path / "model", seed=0) == first
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == when


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole", "lora", "grouped"])
def test_broken_off_and_resumed_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    origin = write_causal("gpt2", tmp_path / "base", wide=0.02)  # with dropout
    more: dict[str, Any] = {
        "whole": {}, "lora": {"lora": {"dropout": 0.1}}, "grouped": {"packing": False, "gradient_accumulation": 2}
    }[kind]  # fmt: skip
    plain = settings(origin, steps=30, checkpoint_every_s=0, batch_size=7, **more)
    unbroken = train(plain, CHOICE, choices(40), tmp_path / "whole" / "model", seed=3)

    def stop(what: str, done: int, total: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    folder = tmp_path / "broken" / "model"
    with pytest.raises(KeyboardInterrupt):
        train(plain, CHOICE, choices(40), folder, seed=3, progress=stop)
    assert not folder.exists()
    checkpoints = list(folder.with_name("checkpoint").glob("checkpoint-*"))
    assert len(checkpoints) == 1
    half = folder.with_name("checkpoint") / "checkpoint-99"  # a kill while it is written leaves such a folder
    half.mkdir()
    resumed = train(plain, CHOICE, choices(40), folder, seed=3)
    assert (resumed.steps, resumed.tokens, resumed.details) == (unbroken.steps, unbroken.tokens, unbroken.details)
    assert {path.name for path in folder.parent.iterdir()} == {"model"}
    one, other = weights(tmp_path / "whole" / "model"), weights(folder)
    assert all(torch.equal(one[name], other[name]) for name in one)


def killed_training(folder: Path, kind: str) -> Trained:
    """The training that a test kills."""
    told = settings(SCRATCH, steps=80, checkpoint_every_s=0)
    if kind == "seq2seq":
        like = told.model_dump(exclude_unset=True, exclude={"kind": True, "base": {"architecture"}})
        told = Seq2SeqSettings.model_validate(like)
    return train(told, CHOICE, choices(44), folder, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["causal", "seq2seq"])
def test_killed_and_resumed_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    unbroken = killed_training(tmp_path / "whole" / "model", kind)
    folder = tmp_path / "killed" / "model"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, 'tests/students');"
        "from test_causal import killed_training; killed_training(Path(sys.argv[1]), sys.argv[2])"
    )
    for least in (13, 39):  # in the third epoch of six steps, and in the seventh
        kill_at(least, [sys.executable, "-c", code, str(folder), kind], folder)
    resumed = killed_training(folder, kind)
    assert (resumed.steps, resumed.tokens, resumed.details) == (unbroken.steps, unbroken.tokens, unbroken.details)
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "whole/model/model.safetensors").read_bytes()
    assert {path.name for path in folder.parent.iterdir()} == {"model"}


def kill_at(least: int, command: list[str], folder: Path) -> None:
    """Start the training of ``folder``, and kill it and its processes once so many steps are saved."""
    root = Path(__file__).parents[2]
    child = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, start_new_session=True)
    while child.poll() is None and steps_saved(folder.with_name("checkpoint")) < least:
        time.sleep(0.005)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not folder.exists()


def steps_saved(checkpoint: Path) -> int:
    return max((int(path.name.partition("-")[2]) for path in checkpoint.glob("checkpoint-*")), default=0)


def test_settings() -> None:
    assert settings_model("causal") is CausalSettings
    plain = {"base": SCRATCH, "trainer": {"max_grad_norm": 0.5}}
    assert validate(CausalSettings, plain, "student") == CausalSettings.model_validate(plain)
    for wrong, said in [
        ({"base": SCRATCH | {"heads": 3}}, "hidden_size: 32 is no multiple of 2 x heads = 6"),
        ({"base": SCRATCH, "steps": None}, "steps or tokens"),
        ({}, "student.base: this key is required"),
        ({"base": "x", "lora": {"rank": 3}}, "Known: alpha, dropout, r, targets"),
    ]:
        with pytest.raises(SettingsError, match=said):
            validate(CausalSettings, wrong, "student")


def test_rows_and_bases_that_do_not_go(base: str, encoder: str, tmp_path: Path) -> None:
    def refused(said: str, rows: list[Example], task: Task = CHOICE, origin: Any = base) -> None:
        with pytest.raises((DataError, SettingsError), match=said) as error:
            train(settings(origin), task, rows, tmp_path / "model", seed=0)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "model").exists()

    refused("no rows to train on", [])
    refused("'0': 'red' is none of its choices", [choices(1)[0].replace(target="red")])
    refused("'0': a row without a target", [choices(1)[0].replace(target=None)])
    refused("there is no folder './nowhere'", choices(3), origin="./nowhere")
    packed_up = Path(write_causal("llama", tmp_path / "quantised"))
    told = json.loads((packed_up / "config.json").read_text("utf-8"))
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (packed_up / "config.json").write_text(json.dumps(told | quantised))
    refused("cannot be loaded as a causal language model: ", choices(3), origin=str(packed_up))
    refused(
        r"' is an encoder \(bert\), not a causal language model; use student.kind: classifier, or another base",
        choices(3), origin=encoder,
    )  # fmt: skip

    def changed(origin: str, **values: Any) -> str:
        folder = tmp_path / f"changed{len(list(tmp_path.iterdir()))}"
        shutil.copytree(origin, folder)
        told = json.loads((folder / "config.json").read_text("utf-8"))
        (folder / "config.json").write_text(json.dumps(told | values))
        return str(folder)

    refused(r"is an encoder \(distilbert\)", choices(3), origin=changed(encoder, model_type="distilbert"))
    both_ways = changed(base, is_causal=False)
    refused("sees the tokens after the one it predicts; use a causal model", choices(3), origin=both_ways)
    assert prepare(settings(base), CHOICE).startswith("sha256:")
    assert prepare(settings(SCRATCH), CHOICE).startswith("scratch:")

    train(settings(base, steps=0), CHOICE, choices(3), tmp_path / "model", seed=0)
    about = tmp_path / "model" / "student.json"
    about.write_text(json.dumps({"kind": "causal"}))
    with pytest.raises(DataError, match=r"student.json' is missing or broken; train the model again"):
        load_model(tmp_path / "model")


@pytest.mark.slow
def test_two_processes_train_one_student(tmp_path: Path) -> None:
    fast = settings(SCRATCH, steps=20, batch_size=8, learning_rate=1e-3)
    one = train(fast, CHOICE, choices(48), tmp_path / "one" / "model", seed=0)
    code = tmp_path / "part.py"
    code.write_text(
        "import os, sys; from pathlib import Path; sys.path.insert(0, 'tests/students')\n"
        "from test_causal import CHOICE, SCRATCH, choices, settings, train\n"
        "fast = settings(SCRATCH, steps=20, batch_size=4, learning_rate=1e-3, checkpoint_every_s=0)\n"
        "done = train(fast, CHOICE, choices(48), Path(sys.argv[1]), seed=0)\n"
        "os.write(1, f'{done.tokens}\\n'.encode())\n"  # in one piece: both get here at once
        "assert Path(sys.argv[1]).exists()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(code)]
    root, folder, killed = Path(__file__).parents[2], tmp_path / "two" / "model", tmp_path / "killed" / "model"
    kill_at(7, [*command, str(killed)], killed)  # in the second epoch of six steps
    for one_folder in (folder, killed):
        done = subprocess.run([*command, str(one_folder)], cwd=root, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split() == [str(one.tokens)] * 2
        assert {path.name for path in one_folder.parent.iterdir()} == {"model"}
    alone, shared, resumed = (weights(tmp_path / name / "model") for name in ("one", "two", "killed"))
    assert max(float((alone[name] - shared[name]).abs().max()) for name in alone) < 1e-3
    assert all(torch.equal(shared[name], resumed[name]) for name in shared)
