"""The seq2seq student: what a row becomes, trained on tiny models, broken off, resumed, opened by transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_causal import ANIMALS, CHOICE, COPY, LABELS, TOOLS, choices, share_right, words
from tiny import ENCODER_DECODERS, write_causal, write_seq2seq
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from understudy.errors import DataError, SettingsError
from understudy.records import Example
from understudy.settings import validate
from understudy.students import Trained, load_model, prepare, settings_model, train
from understudy.students.language import encode
from understudy.students.packing import IGNORED
from understudy.students.seq2seq import batch_of, open_base, pairs_of
from understudy.students.settings import CausalSettings, Seq2SeqSettings

SCRATCH = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}
GROUPED = {"layout": "grouped by length: an encoder-decoder is not packed"}


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_seq2seq("t5", tmp_path_factory.mktemp("t5"))


@pytest.fixture(scope="session")
def bart(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_seq2seq("bart", tmp_path_factory.mktemp("bart"))


def settings(base: Any, **more: Any) -> Seq2SeqSettings:
    plain = {"base": base, "steps": 10, "batch_size": 8, "precision": "fp32", "threads": 1, "learning_rate": 2e-3}
    return Seq2SeqSettings.model_validate(plain | more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def pair_of(base: str, row: Example, task: Any = CHOICE, limits: tuple[int, int] = (512, 512), **more: Any) -> Any:
    """What the row reads as and what it is written as, in text with its special tokens, and what was cut."""
    plain = settings(base, **more)
    network, tokenizer = open_base(plain, ())
    (pair,), *cut = pairs_of([row], task, tokenizer, tokenizer.eos_token_id, plain, limits)
    return tokenizer.decode(pair["input_ids"]), tokenizer.decode(pair["labels"]), tuple(cut)


@pytest.mark.slow
def test_what_is_read_and_what_is_written(t5: str, bart: str) -> None:
    (row,) = choices(1)
    assert pair_of(bart, row) == (
        "<s>Q: Animal? (A) bee (B) bolt\nA:</s>",
        "<s>The answer is (A).</s>A bee is alive.</s>",
        (0, 0),
    )
    read = "Q: Animal? (A) bee (B) bolt A:</s>"  # T5 has no line breaks
    assert pair_of(t5, row) == (read, "The answer is (A).</s> A bee is alive.</s>", (0, 0))
    assert pair_of(t5, row, rank_by="text")[1] == "The answer is bee.</s> A bee is alive.</s>"
    two_lines = row.replace(notes={"explanations": "A bee lives.\n\nA bolt does not."})
    assert pair_of(t5, two_lines)[1] == "The answer is (A).</s> A bee lives. A bolt does not.</s>"
    assert pair_of(bart, row.replace(notes={}))[1] == "<s>The answer is (A).</s>"
    free = Example(id="x", input="one\ntwo", target="my word")
    assert pair_of(bart, free, COPY)[:2] == ("<s>Q: one\ntwo\nA:</s>", "<s>my word</s>")
    assert pair_of(t5, free, COPY)[:2] == ("Q: one two A:</s>", "my word</s>")


@pytest.mark.slow
def test_a_student_that_reads_the_instruction(bart: str, tmp_path: Path) -> None:
    row, plain = choices(1)[0], settings(bart, prompt="instruction")
    network, tokenizer = open_base(plain, ())
    (pair,), *_ = pairs_of([row], CHOICE, tokenizer, tokenizer.eos_token_id, plain, (512, 512), "Choose.\n")
    assert tokenizer.decode(pair["input_ids"]) == "<s>Choose.\nAnimal? (A) bee (B) bolt\n\n### Response:</s>"
    train(plain, CHOICE, choices(20), tmp_path / "model", shots=[row])
    model = load_model(tmp_path / "model")
    assert model.about.preface.startswith("### Instruction:\nChoose.\n\n### Examples:\n")  # pyright: ignore[reportAttributeAccessIssue]
    assert len(list(model.predict(choices(5)))) == 5


@pytest.mark.slow
def test_an_answer_is_the_same_tokens_in_parts_and_whole(t5: str, bart: str) -> None:
    for base in (t5, bart):
        _, tokenizer = open_base(settings(base), ())
        (parts,) = encode(tokenizer, [("The answer is (", "B", ").", "")])
        whole = tokenizer("The answer is (B).", add_special_tokens=False)["input_ids"]
        assert [token for part in parts for token in part] == whole
        assert [len(part) for part in parts[1:]] == [1, 2, 0]
    assert encode(tokenizer, []) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_what_transformers_tokenizers_make_of_a_text_is_what_is_learnt(family: str, t5: str, bart: str) -> None:
    base = {"t5": t5, "bart": bart}[family]
    row = Example(id="x", input="How?", target="So.")
    plain = settings(base)
    network, tokenizer = open_base(plain, ())
    (pair,), *_ = pairs_of([row], COPY, tokenizer, tokenizer.eos_token_id, plain, (512, 512))
    assert pair["input_ids"] == tokenizer("Q: How?\nA:")["input_ids"]
    assert pair["labels"] == tokenizer(text_target="So.")["input_ids"]
    other = {"input_ids": [5], "labels": [6]}
    start, pad = network.config.decoder_start_token_id, tokenizer.pad_token_id
    batch = batch_of([pair, other], start=start, pad_id=pad)  # type: ignore[list-item]
    width = len(pair["labels"])
    assert batch["labels"].tolist() == [pair["labels"], [6] + [IGNORED] * (width - 1)]
    assert batch["attention_mask"].tolist()[1] == [1] + [0] * (len(pair["input_ids"]) - 1)
    theirs = network.prepare_decoder_input_ids_from_labels(labels=batch["labels"][:1])
    assert batch["decoder_input_ids"][0].tolist() == theirs[0].tolist()
    assert batch["decoder_input_ids"].tolist()[1] == [start] + [pad] * (width - 1)
    with torch.no_grad():
        alone = network(input_ids=torch.tensor([pair["input_ids"]]), labels=torch.tensor([pair["labels"]])).logits[0]
        assert torch.allclose(network(**batch).logits[0], alone, atol=1e-5)


@pytest.mark.slow
def test_of_a_long_question_the_end_is_kept_and_of_a_long_answer_the_beginning(
    t5: str, bart: str, tmp_path: Path
) -> None:
    row = Example(id="long", input="a " * 10_000 + "end", target="tool", notes={"explanations": "It is not alive."})
    assert pair_of(bart, row, LABELS, (12, 29)) == ("<s>a a end\nA:</s>", "<s>The answer is tool.</s>It is no", (1, 1))
    assert pair_of(bart, row, LABELS, (12, 40)) == (
        "<s>a a end\nA:</s>",
        "<s>The answer is tool.</s>It is not alive.</s>",
        (1, 0),
    )
    plain = settings(t5, max_length=16, max_target_length=8, steps=2)
    rows = [*words(2), row]
    trained = train(plain, LABELS, rows, tmp_path / "model", seed=0)
    assert trained.details == {"rows": 3, "truncated": 1, "truncated_targets": 3, **GROUPED}
    model: Any = load_model(tmp_path / "model")
    assert len(list(model.predict([row, "b", "c " * 100]))) == 3
    assert model.truncated == 2
    (whole,), (end,) = (list(model.predict([text])) for text in (row, "b " * 50 + "a a a a a end"))
    assert whole == end


@pytest.mark.slow
def test_a_student_from_scratch_learns_to_choose_and_transformers_opens_it(tmp_path: Path) -> None:
    folder = tmp_path / "seed-0" / "model"
    trained = train(
        settings(SCRATCH, steps=120, rank_by="text"), CHOICE, choices(60), folder, seed=0, card={"Arm": "gold"}
    )
    assert {path.name for path in folder.parent.iterdir()} == {"model"}
    assert (trained.steps, trained.details) == (120, {"rows": 60, "truncated": 0, "truncated_targets": 0, **GROUPED})
    model, test = load_model(folder), choices(40, seed=1)
    assert share_right(model, test) > 0.9
    prediction = next(model.predict(test))
    assert set(prediction.scores) == set(test[0].choices)
    assert sum(prediction.scores.values()) == pytest.approx(1)

    network: Any = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert network.num_parameters() == trained.parameters
    ids = tokenizer("Q: Animal? (A) axe (B) cow\nA:", return_tensors="pt")
    text = tokenizer.decode(network.generate(**ids, max_new_tokens=40)[0], skip_special_tokens=True)
    assert text == "The answer is cow."

    card = (folder / "README.md").read_text("utf-8")
    assert "- Arm: gold" in card
    assert "- Base: random weights, t5" in card
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".md"):
            assert str(tmp_path) not in path.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_labels_are_ranked_and_answers_end_before_the_explanations(family: str, tmp_path: Path) -> None:
    fast = settings(write_seq2seq(family, tmp_path / "base"), steps=100, learning_rate=5e-3)
    train(fast, LABELS, words(60), tmp_path / "labels" / "model", seed=0)
    model = load_model(tmp_path / "labels" / "model")
    assert share_right(model, words(40, seed=1)) > 0.9
    assert next(model.predict(["owl"])).output == "animal"

    rows = [row.replace(target=f"my {row.target}", notes={"explanations": "as said"}) for row in words(60)]
    train(fast, COPY, rows, tmp_path / "copy" / "model", seed=0)
    assert share_right(load_model(tmp_path / "copy" / "model"), rows) > 0.9

    many = LABELS.model_copy(update={"kind": "multilabel"})
    both = [row.replace(input=f"{row.input} pen", target=("animal", "tool") if row.target == "animal" else ("tool",),
                        notes={"explanations": "animal, tool"}) for row in words(60)]  # fmt: skip
    train(fast, many, both, tmp_path / "many" / "model", seed=0)
    assert share_right(load_model(tmp_path / "many" / "model"), both) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("rank_by", ["letter", "text"])
@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_options_are_ranked_as_one_at_a_time(family: str, rank_by: str, tmp_path: Path) -> None:
    plain = settings(write_seq2seq(family, tmp_path / "base"), steps=20, rank_by=rank_by)
    train(plain, CHOICE, choices(20), tmp_path / "model", seed=0)
    model: Any = load_model(tmp_path / "model")
    rows = [row.replace(choices=(*row.choices, "a longer one")) for row in choices(12, seed=2)]
    network, tokenizer = model.network, model.tokenizer
    bare = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    behind = lambda text: bare(f"({text}")[len(bare("(")) :]  # noqa: E731
    for row, prediction in zip(rows, model.predict(rows), strict=True):
        read = "Q: Animal? " + " ".join(f"({a}) {b}" for a, b in zip("ABC", row.choices, strict=True)) + "\nA:"
        lead = bare("The answer is" + (" (" if rank_by == "letter" else ""))
        lead = ([tokenizer.bos_token_id] if family == "bart" else []) + lead
        scores = []
        for letter, choice in zip("ABC", row.choices, strict=True):
            option = behind(letter if rank_by == "letter" else f" {choice}")
            with torch.no_grad():
                labels = torch.tensor([lead + option])
                out = network(input_ids=torch.tensor([tokenizer(read)["input_ids"]]), labels=labels).logits[0]
            likely = out.log_softmax(-1)[range(len(lead), len(lead + option)), option]
            scores.append(float(likely.sum() if rank_by == "letter" else likely.mean()))
        shares = torch.tensor(scores).softmax(0).tolist()
        assert list(prediction.scores.values()) == pytest.approx(shares, abs=1e-4)
        assert prediction.output == row.choices[scores.index(max(scores))]


@pytest.mark.slow
def test_an_option_that_the_tokenizer_makes_nothing_of_is_named(t5: str, tmp_path: Path) -> None:
    train(settings(t5, steps=1, rank_by="text"), CHOICE, choices(8), tmp_path / "model", seed=0)
    blank = choices(1)[0].replace(id="blank", choices=("bee", " "))
    with pytest.raises(DataError, match="^example 'blank': option 1 of 2 has no tokens; change its text"):
        list(load_model(tmp_path / "model").predict([*choices(3), blank]))


@pytest.mark.slow
def test_lora_trains_adapters_and_delivers_a_whole_model(t5: str, tmp_path: Path) -> None:
    lora = settings(t5, steps=30, lora={"r": 4, "targets": ["q", "v"]})
    trained = train(lora, CHOICE, choices(20), tmp_path / "model", seed=0)
    assert trained.details["trained_parameters"] < trained.parameters / 10
    before, after = load_file(Path(t5) / "model.safetensors"), weights(tmp_path / "model")
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q", "v"}
    assert len(list(load_model(tmp_path / "model").predict(choices(3)))) == 3
    with pytest.raises(SettingsError, match=r"no layer 'q_proj'. .*Known: .*wi, wo"):
        prepare(settings(t5, lora={"targets": ["q_proj"]}), CHOICE)
    every = settings(write_seq2seq("bart", tmp_path / "bart"), steps=2, lora={})
    assert train(every, CHOICE, choices(20), tmp_path / "every" / "model", seed=0).details["trained_parameters"] > 0


@pytest.mark.slow
def test_steps_tokens_and_transformers_own_arguments(t5: str, tmp_path: Path) -> None:
    def trained(name: str, **more: Any) -> Trained:
        return train(settings(t5, **more), LABELS, words(20), tmp_path / name / "model", seed=0)

    five = trained("five", steps=5)
    rows = pairs_of(words(20), LABELS, open_base(settings(t5), ())[1], 1, settings(t5), (512, 512))[0]
    whole = sum(len(row["input_ids"]) + len(row["labels"]) for row in rows)
    assert trained("epoch", trainer={"num_train_epochs": 1}).tokens == whole  # read and written ones
    assert trained("tokens", steps=None, tokens=five.tokens).steps == 5
    assert trained("more", steps=None, tokens=five.tokens + 1).steps == 6
    assert trained("none", steps=0).tokens == 0
    assert trained("bf16", steps=2, precision="bf16").steps == 2
    assert trained("smooth", trainer={"max_steps": 2, "label_smoothing_factor": 0.1}).steps == 2


@pytest.mark.slow
def test_gradients_are_accumulated_as_in_one_batch(t5: str, tmp_path: Path) -> None:
    rows = [Example(id=str(i), input=word, target="cat") for i, word in enumerate(ANIMALS[:4] + TOOLS[:4])]
    for size, times in ((8, 1), (4, 2)):
        more = {"batch_size": size, "gradient_accumulation": times, "steps": 3, "trainer": {"max_grad_norm": 1e9}}
        sgd = {"optim": "sgd", "max_grad_norm": 0}  # in proportion to the gradient, other than Adam
        more["trainer"] = sgd
        train(settings(t5, **more), COPY, rows, tmp_path / str(times) / "model", seed=0)
    one, other = (weights(tmp_path / name / "model") for name in "12")
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart", "lora"])
def test_broken_off_and_resumed_ends_with_the_same_weights(kind: str, tmp_path: Path) -> None:
    origin = write_seq2seq("bart" if kind == "bart" else "t5", tmp_path / "base", dropout=0.1)
    more: dict[str, Any] = {"lora": {"dropout": 0.1}} if kind == "lora" else {"gradient_accumulation": 2}
    plain = settings(origin, steps=12, checkpoint_every_s=0, batch_size=7, **more)
    unbroken = train(plain, CHOICE, choices(40), tmp_path / "whole" / "model", seed=3)

    def stop(what: str, done: int, total: int) -> None:
        if done > 7:
            raise KeyboardInterrupt

    folder = tmp_path / "broken" / "model"
    with pytest.raises(KeyboardInterrupt):
        train(plain, CHOICE, choices(40), folder, seed=3, progress=stop)
    assert not folder.exists()
    resumed = train(plain, CHOICE, choices(40), folder, seed=3)
    assert (resumed.steps, resumed.tokens, resumed.details) == (unbroken.steps, unbroken.tokens, unbroken.details)
    assert {path.name for path in folder.parent.iterdir()} == {"model"}
    assert (folder / "model.safetensors").read_bytes() == (tmp_path / "whole/model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_settings() -> None:
    assert settings_model("seq2seq") is Seq2SeqSettings
    for wrong, said in [
        ({"base": SCRATCH | {"architecture": "llama"}}, "architecture: Input should be 't5'"),
        ({"base": "x", "packing": True}, "student.packing: unknown key"),
        ({}, "student.base: this key is required"),
    ]:
        with pytest.raises(SettingsError, match=said):
            validate(Seq2SeqSettings, wrong, "student")


@pytest.mark.slow
def test_bases_that_do_not_go(t5: str, bart: str, tmp_path: Path) -> None:
    def refused(said: str, told: Any) -> None:
        with pytest.raises(DataError, match=said) as error:
            prepare(told, CHOICE)
        assert "\n" not in str(error.value)

    llama = write_causal("llama", tmp_path / "llama")
    refused(r"is a causal language model \(llama\), not an encoder-decoder; use student.kind: causal", settings(llama))
    for family, base in (("t5", t5), ("bart", bart)):
        said = rf"is an encoder-decoder \({family}\), not a causal language model; use student.kind: seq2seq"
        refused(said, CausalSettings(base=base))

    def damaged(name: str, file: str, key: str) -> Seq2SeqSettings:
        base = Path(write_seq2seq("t5", tmp_path / name))
        told = json.loads((base / file).read_text("utf-8"))
        del told[key]
        (base / file).write_text(json.dumps(told))
        return settings(str(base))

    unpadded = damaged("pad", "tokenizer_config.json", "pad_token")
    tokens = Path(str(unpadded.base)) / "tokenizer_config.json"
    plain = json.loads(tokens.read_text("utf-8")) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    tokens.write_text(json.dumps(plain))
    refused("has no padding token; set pad_token in its tokenizer", unpadded)
    started = damaged("start", "config.json", "decoder_start_token_id")
    (Path(str(started.base)) / "generation_config.json").unlink()
    refused("does not say what its decoder starts with; set decoder_start_token_id in its config.json", started)
    with pytest.raises(SettingsError, match="a seq2seq cannot learn kind: pretraining; it fits classification, "):
        prepare(settings(t5), CHOICE.model_copy(update={"kind": "pretraining"}))
    assert prepare(settings(SCRATCH), CHOICE).startswith("scratch:")
