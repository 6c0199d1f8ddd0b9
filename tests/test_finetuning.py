"""Fine-tuning on a folder of tasks. The files are made here, in the forms of GLUE, SuperGLUE and MSGS; the models are
tiny random RoBERTas with a tokenizer of their own, as a masked language model from scratch is."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from test_broken_off import wait_until
from toys import hear_ctrl_c, write_jsonl

import understudy
from understudy.errors import DataError, SettingsError, UnderstudyError
from understudy.finetuning import _plan, named
from understudy.suites import tasks_in

FAST = ["student.precision=fp32", "student.threads=1"]
GOOD, BAD = ["good", "fine", "warm", "kind"], ["bad", "cold", "sour", "mean"]


def write_roberta(folder: Path, seed: int = 0) -> str:
    """A random RobertaForMaskedLM of 30 positions, which reads 28 tokens, with a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    every = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE({token: i for i, token in enumerate(every)}, []))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    bytewise.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=bytewise, **names).save_pretrained(folder)
    torch.manual_seed(seed)
    shape = RobertaConfig(
        vocab_size=len(every), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=30, type_vocab_size=1, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        initializer_range=0.2,
    )  # fmt: skip
    RobertaForMaskedLM(shape).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_roberta(tmp_path_factory.mktemp("models") / "roberta")


def sentences(count: int, seed: int) -> list[dict[str, Any]]:
    """Different sentences of which words tell the label."""
    draw, found = random.Random(seed), dict[str, int]()
    while len(found) < count:
        label = len(found) % 2
        found.setdefault(f"{draw.choice([BAD, GOOD][label])} {draw.randrange(10**6)}", label)
    return [{"sentence": text, "label": label, "idx": i} for i, (text, label) in enumerate(found.items())]


def features(count: int, seed: int, **same: Any) -> list[dict[str, Any]]:
    """Rows as MSGS has them, in which the two features agree unless ``same`` says otherwise."""
    rows = []
    for row in sentences(count, seed):
        label = row["label"]
        both = {"linguistic_feature_label": label, "surface_feature_label": label} | same
        rows.append({"sentence": row["sentence"], "linguistic_feature_type": "morphology"} | both)
    return rows


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """CoLA and MRPC as the BabyLM pipeline names files, WSC and a control of MSGS in folders of their own."""
    folder = tmp_path / "suite"
    for task in ("wsc", "main_verb_control"):
        (folder / task).mkdir(parents=True)
    write_jsonl(folder / "cola.train.json", [*sentences(24, 0), sentences(12, 1)[0]])  # the last is scored too
    write_jsonl(folder / "cola.validation.json", sentences(12, 1))
    write_jsonl(folder / "cola.test.json", [row | {"label": -1} for row in sentences(12, 2)])
    pairs = [{"sentence1": r["sentence"], "sentence2": "x", "label": r["label"]} for r in sentences(36, 3)]
    write_jsonl(folder / "mrpc.train.json", pairs[:24])
    write_jsonl(folder / "mrpc.dev.json", pairs[24:])
    spans = [{"text": r["sentence"], "span1_text": "a", "span2_text": "b", "label": bool(r["label"])} for r in
             sentences(36, 4)]  # fmt: skip
    write_jsonl(folder / "wsc" / "train.jsonl", spans[:24])
    write_jsonl(folder / "wsc" / "validation.jsonl", spans[24:])
    write_jsonl(folder / "main_verb_control" / "train.jsonl", features(24, 5, surface_feature_label=None))
    write_jsonl(folder / "main_verb_control" / "test.jsonl", features(12, 6, surface_feature_label=None))
    return folder


def test_the_forms_of_the_files_say_what_is_read_and_how_it_is_scored(suite: Path):
    found = {task.name: task for task in tasks_in(suite)}
    assert [*found] == ["cola", "main_verb_control", "mrpc", "wsc"]
    assert {name: task.metrics[0] for name, task in found.items()} == {
        "cola": "mcc", "main_verb_control": "mcc", "mrpc": "f1", "wsc": "accuracy",
    }  # fmt: skip
    assert {name: task.split for name, task in found.items()} == {
        "cola": "validation", "main_verb_control": "test", "mrpc": "dev", "wsc": "validation",
    }  # fmt: skip
    assert found["cola"].notes == ("its test rows have no labels, so they are not used.",)
    assert found["main_verb_control"].fields.target == "linguistic_feature_label"
    assert found["mrpc"].fields.input == "{{ sentence1 }}\n{{ sentence2 }}"
    assert found["wsc"].labels == {"False": "False", "True": "True"}
    assert [task.name for task in tasks_in(suite, ["wsc"])] == ["wsc"]


@pytest.mark.slow
def test_two_models_side_by_side_in_one_table(suite: Path, roberta: str, tmp_path: Path):
    other = write_roberta(tmp_path / "arms" / "raw" / "seed-0" / "model", seed=1)
    place = tmp_path / "out"
    models = [roberta, other]
    told = understudy.finetune(
        models, suite, tasks=["cola", "wsc"], seeds=[0, 1], epochs=1, folder=place, changes=[*FAST, "student.steps=2"]
    )
    assert told["models"] == ["roberta", "raw seed-0"]
    assert told == orjson.loads((place / "table.json").read_bytes())
    cola = told["tasks"]["cola"]
    assert (cola["metric"], cola["training_rows"], cola["test_rows"], cola["steps"]) == ("mcc", 24, 12, 2)
    assert cola["metrics"]["roberta"]["mcc"]["chance"] == 0
    assert cola["differences"]["raw seed-0"]["low"] <= cola["differences"]["raw seed-0"]["high"]
    means = [told["tasks"][name]["metrics"]["roberta"][metric]["mean"] for name, metric in
             (("cola", "mcc"), ("wsc", "accuracy"))]  # fmt: skip
    assert told["mean"]["roberta"] == pytest.approx(sum(means) / 2, abs=1e-5)
    table = (place / "table.md").read_text()
    assert re.search(r"\| cola +\| +24 \| 12 validation \| MCC +\| +\.000 \|", table)
    assert re.search(r"\| against roberta +\| raw seed-0 +\|", table)
    assert "cola: training rows dropped: 1 in_test_split." in told["notes"]
    assert any("cola: its test rows have no labels" in note for note in told["notes"])
    assert any("wsc: roberta cuts 12 of 12 test inputs" in note for note in told["notes"])
    assert "--seeds 0,1 --epochs 1 --set" in told["command"]
    models_made = {path: path.stat().st_mtime_ns for path in place.rglob("model.safetensors")}
    assert len(models_made) == 8
    again = understudy.finetune(
        models, suite, tasks=["cola", "wsc"], seeds=[0, 1], epochs=1, folder=place, changes=[*FAST, "student.steps=2"]
    )
    assert again == told
    assert models_made == {path: path.stat().st_mtime_ns for path in place.rglob("model.safetensors")}


def test_a_masked_language_model_is_a_base_as_it_is(roberta: str, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    from understudy.students.network import from_base

    network, tokenizer = from_base(roberta, None, ("0", "1"), True, 128)
    assert tokenizer.model_max_length == 28  # two of the 30 positions stand before the first token's
    assert not network.encoder.pooler.dense.weight.any()  # it has none, and two readings must not differ
    broken = shutil.copytree(roberta, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    lost = {name: one for name, one in weights.items() if "layer.1.output" not in name}
    save_file(lost, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="has no weights for encoder.layer.1.output"):
        from_base(str(broken), None, ("0", "1"), True, 128)


def test_the_steps_come_from_rows_epochs_and_batch(suite: Path, roberta: str, tmp_path: Path):
    told = understudy.finetune(
        [roberta], suite, tasks=["cola"], seeds=[0], epochs=2, limit=10, folder=tmp_path / "out",
        changes=[*FAST, "student.batch_size=4"],
    )  # fmt: skip
    assert (told["tasks"]["cola"]["training_rows"], told["tasks"]["cola"]["steps"]) == (10, 5)
    assert "One seed: the intervals do not know how much training itself varies." in told["notes"]


@pytest.mark.parametrize(
    ("change", "rows"),
    [("task.train.limit=8", 8), ("task.train={path: $, skip: 19}", 6), ("task.train={path: $, per_label: 3}", 6)],
)
def test_the_steps_are_those_of_the_rows_that_a_change_leaves(
    change: str, rows: int, suite: Path, roberta: str, tmp_path: Path
):
    changes = [*FAST, "student.batch_size=2", change.replace("$", str(suite / "cola.train.json"))]
    (task,) = tasks_in(suite, ["cola"])
    planned = _plan(task, {"tiny": roberta}, tmp_path, [0], 3, changes, None)
    assert planned.steps == planned.study["student"]["steps"] == rows * 3 / 2
    assert _plan(task, {"tiny": roberta}, tmp_path, [0], 3, changes, 4).steps == min(rows, 4) * 3 / 2
    assert _plan(task, {"tiny": roberta}, tmp_path, [0], 3, [*changes, "student.steps=1"], None).steps == 1


def test_of_mixed_msgs_rows_only_those_count_whose_features_differ(roberta: str, tmp_path: Path):
    suite = tmp_path / "msgs"
    (suite / "irregular_form_length").mkdir(parents=True)
    write_jsonl(suite / "irregular_form_length" / "train.jsonl", features(20, 0))
    differ = [row | {"surface_feature_label": 1 - row["linguistic_feature_label"]} for row in features(10, 1)]
    write_jsonl(suite / "irregular_form_length" / "test.jsonl", [*features(6, 2), *differ])
    told = understudy.finetune({"tiny": roberta}, suite, seeds=[0], folder=tmp_path / "out", changes=FAST)
    task = told["tasks"]["irregular_form_length"]
    assert (task["metric"], task["test_rows"]) == ("mcc", 10)
    assert any("scored on the 10 of 16 test rows whose two features differ" in note for note in told["notes"])


def test_mnli_has_two_tests_with_one_train_file(tmp_path: Path):
    rows = [{"premise": f"a {i}", "hypothesis": "b", "label": i % 3} for i in range(9)]
    for split in ("train", "validation_matched", "validation_mismatched"):
        write_jsonl(tmp_path / f"mnli.{split}.json", rows)
    found = {task.name: task for task in tasks_in(tmp_path)}
    assert [*found] == ["mnli", "mnli-mm"]
    assert found["mnli-mm"].train == found["mnli"].train
    assert found["mnli-mm"].test.name == "mnli.validation_mismatched.json"
    assert [*found["mnli"].labels] == ["0", "1", "2"]


def test_files_that_are_links_have_the_name_of_their_own_folder(tmp_path: Path):
    """As the hub keeps a snapshot: the files are links to others that have no names."""
    (hub := tmp_path / "blobs").mkdir()
    (task := tmp_path / "suite" / "rte").mkdir(parents=True)
    for number, split in enumerate(("train", "validation")):
        write_jsonl(hub / str(number), sentences(4, number))
        (task / f"{split}.jsonl").symlink_to(hub / str(number))
    assert [one.name for one in tasks_in(tmp_path / "suite")] == ["rte"]
    assert [one.name for one in tasks_in(task / ".." / "rte")] == ["rte"]


def test_a_broken_task_is_said_before_anything_is_trained(suite: Path, roberta: str, tmp_path: Path):
    write_jsonl(suite / "alone.train.jsonl", sentences(4, 7))
    write_jsonl(suite / "odd.train.jsonl", [{"left": "a", "right": "b", "label": 0}])
    write_jsonl(suite / "odd.valid.jsonl", [{"left": "a", "right": "b", "label": 0}])
    write_jsonl(suite / "one.train.jsonl", [row | {"label": 1} for row in sentences(4, 8)])
    write_jsonl(suite / "one.valid.jsonl", sentences(4, 9))
    write_jsonl(suite / "scale.train.jsonl", [row | {"label": 2.5} for row in sentences(4, 8)])
    write_jsonl(suite / "blind.train.jsonl", sentences(4, 8))
    write_jsonl(suite / "blind.test.jsonl", [{"sentence": "a"}])
    write_jsonl(suite / "more.train.jsonl", sentences(4, 8))
    write_jsonl(suite / "more.test.jsonl", [{"sentence": "a", "label": 7}])
    (suite / "torn.train.jsonl").write_text('{"sentence": "a", "label": 0}\n{"sentence": "b", ')
    with pytest.raises(DataError) as told:
        understudy.finetune([roberta], suite, folder=tmp_path / "out")
    said = str(told.value).splitlines()
    assert len(said) == 8
    for line, problem in zip(
        said,
        (
            r"alone: there is no file to score on beside .*alone\.train\.jsonl: test, valid, validation, dev",
            r"blind: its test rows have no labels.*no other file to score on",
            r"more: .*more\.test\.jsonl: '7' is none of the labels 0, 1",
            r"odd: .*its columns \(left, right, label\) are of no known form.*suite\.yaml",
            r"one: .*all rows have the one label '1'",
            r"scale: .*numbers on a scale, e\.g\. 2\.5",
            r"torn: .*torn\.train\.jsonl:2: broken JSON",
            r"nothing was trained: .*--task",
        ),
        strict=True,
    ):
        assert re.match(problem, line), line
    assert not (tmp_path / "out").exists()


def test_suite_yaml_says_what_the_files_do_not(tmp_path: Path):
    write_jsonl(
        tmp_path / "odd.train.jsonl", [{"left": f"a{i}", "right": "b", "gold": i % 2 * 2 - 1} for i in range(4)]
    )
    write_jsonl(tmp_path / "odd.valid.jsonl", [{"left": "c", "right": "d", "gold": -1}])
    write_jsonl(tmp_path / "none.train.jsonl", [{"x": 1}])
    changes = tmp_path / "suite.yaml"
    changes.write_text(
        "odd:\n  fields: {input: '{{ left }} {{ right }}', target: gold}\n  labels: {-1: 0, 1: 1}\n  metrics: [f1]\n"
        "none: {skip: true}\n"
    )
    (odd,) = tasks_in(tmp_path)
    assert (odd.name, odd.labels, odd.metrics, odd.fields.target) == ("odd", {"-1": "0", "1": "1"}, ("f1",), "gold")
    changes.write_text("od: {skip: true}")
    with pytest.raises(SettingsError, match="there is no task 'od'. Did you mean 'odd'?"):
        tasks_in(tmp_path)
    changes.write_text("odd: {metrics: [acc]}")
    with pytest.raises(SettingsError, match="odd: task.metrics: 'acc' is no metric"):
        tasks_in(tmp_path)


def test_names_and_places_that_are_not_there(suite: Path, roberta: str, tmp_path: Path):
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="--task 'col': there is no such task. Did you mean 'cola'?"):
        understudy.finetune([roberta], suite, tasks=["col"])
    with pytest.raises(SettingsError, match="holds no task: files are expected such as cola.train.jsonl"):
        understudy.finetune([roberta], empty)
    with pytest.raises(DataError, match="there is no folder '/nowhere/model'"):
        understudy.finetune(["/nowhere/model"], suite)
    with pytest.raises(SettingsError, match="two models are called 'roberta'"):
        named([roberta, "x/roberta"])
    assert named(["a=x/model", "runs/c/arms/raw/seed-1/model", "org/name"]) == {
        "a": "x/model", "raw seed-1": "runs/c/arms/raw/seed-1/model", "name": "org/name",
    }  # fmt: skip
    with pytest.raises(SettingsError, match="student.stepps: unknown key"):
        understudy.finetune([roberta], suite, changes=["student.stepps=1"], folder=tmp_path / "out")


def test_a_task_that_fails_leaves_the_others(suite: Path, roberta: str, tmp_path: Path):
    place = tmp_path / "out"
    for split in ("train", "validation"):  # nothing is left of the train rows: all are in the split that is scored
        write_jsonl(suite / f"leak.{split}.json", sentences(6, 0))
    with pytest.raises(UnderstudyError, match=r"1 of 2 tasks failed; the table has the others.*leak.*is dropped"):
        understudy.finetune(
            [roberta], suite, tasks=["leak", "cola"], seeds=[0], folder=place, changes=[*FAST, "student.steps=0"]
        )
    told = orjson.loads((place / "table.json").read_bytes())
    assert ([*told["tasks"]], [*told["failed"]]) == (["cola"], ["leak"])
    assert told["tasks"]["cola"]["heads"] == {"roberta": 1}
    assert "head 1/1" in (place / "table.md").read_text()


@pytest.mark.slow
def test_the_command_goes_on_after_a_kill(suite: Path, roberta: str, tmp_path: Path):
    def start() -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "understudy", "finetune", f"tiny={roberta}", str(suite), "--seeds", "0"]
        words += ["--task", "cola", "--task", "wsc", "--set", "student.steps=3", "--set", "student.threads=1", "--json"]
        return subprocess.Popen(
            words, cwd=tmp_path, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=hear_ctrl_c,
        )  # fmt: skip

    runs = tmp_path / "runs" / "finetune-tiny"
    killed = start()
    wait_until(lambda: (runs / "cola" / "report.json").exists(), killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert not (runs / "table.json").exists()
    before = next((runs / "cola").rglob("model.safetensors")).stat().st_mtime_ns
    out, err = (again := start()).communicate(timeout=120)
    assert again.returncode == 0, err
    assert [*json.loads(out)["tasks"]] == ["cola", "wsc"]
    assert next((runs / "cola").rglob("model.safetensors")).stat().st_mtime_ns == before
