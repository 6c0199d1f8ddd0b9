"""A tiny random model on this machine as a teacher."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import asked, examples

from understudy.errors import DataError, SettingsError
from understudy.settings import validate
from understudy.teachers import Ledger, Reply, TeacherSettings, open_teacher

pytestmark = pytest.mark.slow  # loads PyTorch models

WORDS = ["<pad>", "</s>", "<unk>", "row", ";", "Say", "it", "loudly", ".", *map(str, range(10)), *"abcdefghijklm"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """A tiny model computes sooner than threads start."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(WORDS), n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1
    )
    return saved(GPT2LMHeadModel, config, tmp_path_factory.mktemp("causal") / "model")


@pytest.fixture(scope="module")
def seq2seq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    config.decoder_start_token_id = 0
    return saved(T5ForConditionalGeneration, config, tmp_path_factory.mktemp("seq2seq") / "model")


def saved(kind: Any, config: Any, folder: Path) -> Path:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    kind(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def local(folder: Path | str, **changes: Any) -> TeacherSettings:
    values = {"backend": "transformers", "model": str(folder), "sampling": {"max_tokens": 8}, **changes}
    return validate(TeacherSettings, values, "teacher")


def answers(settings: TeacherSettings, place: Path, n: int = 1) -> list[Reply]:
    """The replies to five prompts of different lengths."""
    rows = [row.replace(input="a b c " * i + row.input) for i, row in enumerate(examples(5))]
    with Ledger.open(place) as ledger, open_teacher(settings, ledger) as teacher:
        kept, dropped = asked(teacher, rows, n)
        keys = {row.id: row.replies[0] for row in [*kept, *(row.example for row in dropped)]}
        replies = ledger.get_many(list(keys.values()))
        return [replace(replies[key], latency_s=0.0) for _, key in sorted(keys.items())]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "top_p": 0.9}])
def test_the_same_request_gets_the_same_answer_whatever_its_batch(
    causal: Path, tmp_path: Path, sampling: dict[str, float]
):
    sampling = {"max_tokens": 8, **sampling}
    one = answers(local(causal, sampling=sampling, batch_size=1), tmp_path / "one", n=2)
    many = answers(local(causal, sampling=sampling, batch_size=7), tmp_path / "many", n=2)
    assert one == many
    texts = [reply.text for reply in one]
    assert (texts[::2] != texts[1::2]) == ("top_p" in sampling), "samples differ where they are drawn, and only there"


def test_an_encoder_decoder_answers_too(seq2seq: Path, tmp_path: Path):
    one = answers(local(seq2seq, batch_size=1), tmp_path / "one")
    many = answers(local(seq2seq, batch_size=5), tmp_path / "many")
    assert one == many
    assert len(one) == 5


def test_replies_go_by_the_weights_and_not_by_the_folder(causal: Path, tmp_path: Path):
    moved = tmp_path / "moved"
    shutil.copytree(causal, moved)
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        sampling = {"max_tokens": 8, "temperature": 1}
        with open_teacher(local(causal, sampling=sampling), ledger) as teacher:
            asked(teacher, examples(3))
            identity = teacher.identity
        with open_teacher(local(moved, sampling=sampling, batch_size=2), ledger) as teacher:
            asked(teacher, examples(3))
            assert teacher.identity == identity
            assert (teacher.usage().requests, teacher.usage().from_ledger) == (0, 3)
        (moved / "tokenizer_config.json").write_text("{}")
        with open_teacher(local(moved, sampling=sampling), ledger, render_only=True) as teacher:
            assert teacher.identity != identity


def test_answers_end_where_they_should_and_are_counted(causal: Path, tmp_path: Path):
    settings = local(causal, sampling={"max_tokens": 16, "temperature": 2, "stop": [" row", " a"]})
    replies = answers(settings, tmp_path / "ledger", n=3)
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    for reply in replies:
        assert " row" not in reply.text
        assert " a" not in reply.text
        assert reply.completion_tokens is not None
        assert (reply.finish_reason == "length") == (reply.completion_tokens == 16)
        assert len(reply.text.split()) <= reply.completion_tokens
        assert (reply.usd, reply.model) == (0.0, "model")
        assert reply.mean_logprob is not None
        assert reply.mean_logprob < 0


def test_a_prompt_that_is_too_long_is_dropped(causal: Path, tmp_path: Path):
    rows = [row.replace(input="a " * (70 if row.id == "e1" else 1)) for row in examples(3)]
    with Ledger.open(tmp_path / "l") as ledger, open_teacher(local(causal), ledger) as teacher:
        _, dropped = asked(teacher, rows)
    assert [row.example.id for row in dropped if row.reason == "too_long"] == ["e1"]


def test_a_chat_template_is_used_and_may_refuse(causal: Path, tmp_path: Path):
    folder = tmp_path / "chat"
    shutil.copytree(causal, folder)
    template = "{% for m in messages %}{% if m.content == 'row 1;' %}{{ raise_exception('never row 1') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(template + "{{ m.role }} {{ m.content }} {% endfor %}")
    with Ledger.open(tmp_path / "l") as ledger, open_teacher(local(folder), ledger) as teacher:
        _, dropped = asked(teacher, examples(3))
    (refused,) = [row for row in dropped if row.reason == "bad_request"]
    assert "never row 1" in refused.detail


def test_a_folder_that_is_no_model_is_refused(causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    torn = tmp_path / "torn"
    shutil.copytree(causal, torn)
    (torn / "model.safetensors").write_bytes(b"torn")
    with Ledger.open(tmp_path / "l") as ledger:
        for folder in (tmp_path / "empty", tmp_path / "none", torn, "none"):
            with pytest.raises(DataError, match=r"teacher\.model") as caught:
                open_teacher(local(folder), ledger)
            assert "\n" not in str(caught.value)


def test_a_parameter_that_it_does_not_have_is_refused(causal: Path, tmp_path: Path):
    settings = local(causal, sampling={"extra": {"top_k": 3}})
    refused = pytest.raises(SettingsError, match="'top_k'")
    with Ledger.open(tmp_path / "l") as ledger, open_teacher(settings, ledger) as teacher, refused:
        asked(teacher, examples(1))
