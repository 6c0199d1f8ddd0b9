"""A real server of our openai back end: ``transformers serve`` over a tiny real model, on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from asking import asked, examples
from servers import ChatServer
from toys import WORDS, Toy

from understudy.errors import TeacherError
from understudy.settings import validate
from understudy.teachers import Ledger, TeacherSettings, open_teacher
from understudy.teachers.probe import Capabilities, probe

for package in ("fastapi", "openai", "uvicorn"):
    pytest.importorskip(package, reason='transformers serve needs it: pip install "transformers[serving]"')

pytestmark = pytest.mark.slow  # loads PyTorch twice

ANSWERS = [*WORDS, "perhaps"]  # the last is no topic


def write_causal(folder: Path) -> str:
    """A random Llama of one layer with a chat template. It knows all bytes and answers with one of four words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    letters.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    every_byte = pre_tokenizers.ByteLevel.alphabet()
    letters.train_from_iterator(
        ["What is the message about?"],
        trainers.BpeTrainer(special_tokens=["<pad>", "</s>"], initial_alphabet=every_byte),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<pad>", eos_token="</s>")
    tokenizer.add_tokens(ANSWERS)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=2048,
        )
    )
    words = [tokenizer.convert_tokens_to_ids(word) for word in ANSWERS]
    model.generation_config.update(
        do_sample=True,
        pad_token_id=0,
        eos_token_id=words,
        suppress_tokens=[token for token in range(len(tokenizer)) if token not in words],
    )
    model.save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class Serving:
    """The server's address and the name of its only model."""

    base_url: str
    model: str

    def settings(self, **changes: Any) -> TeacherSettings:
        sampling = {"max_tokens": 4, **changes.pop("sampling", {})}
        values = {"model": self.model, "base_url": self.base_url, "sampling": sampling, "concurrency": 4, **changes}
        return validate(TeacherSettings, values, "teacher")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("serving")
    model = write_causal(folder / "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    command = ["transformers.cli.transformers", "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--device", "cpu"],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
            yield Serving(f"http://127.0.0.1:{port}/v1", model)
        finally:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"the server did not start: {log.read_text()[-2000:]}")


def test_it_answers_and_everything_is_counted(serving: Serving, tmp_path: Path):
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger:
        with open_teacher(serving.settings(), ledger) as teacher:
            kept, dropped = asked(teacher, examples(6))
            usage = teacher.usage()
        assert dropped == []
        assert {row.target for row in kept} <= set(ANSWERS)
        assert (usage.requests, usage.completion_tokens) == (6, 6)
        assert usage.prompt_tokens > 6 * len("user: row 0;")
        with open_teacher(serving.settings(), ledger) as teacher:
            assert asked(teacher, examples(6)) == (kept, dropped)
            assert (teacher.usage().requests, teacher.usage().from_ledger) == (0, 6)


def test_several_samples_come_though_it_ignores_n(serving: Serving, tmp_path: Path):
    with Ledger.open(tmp_path / "ledger.sqlite3") as ledger, open_teacher(serving.settings(), ledger) as teacher:
        kept, dropped = asked(teacher, examples(3), n=4)
        assert ledger.info().replies == 12
    assert (len(kept), dropped) == (12, [])
    assert len({row.target for row in kept}) > 1, "samples differ"


def test_what_it_refuses_is_said(serving: Serving, tmp_path: Path):
    unknown = serving.settings(sampling={"extra": {"top_k": 3}})
    with (
        Ledger.open(tmp_path / "ledger.sqlite3") as ledger,
        open_teacher(unknown, ledger) as teacher,
        pytest.raises(TeacherError, match=r"top_k.*teacher\.sampling"),
    ):
        asked(teacher, examples(3))


def test_a_whole_study_runs_on_it(serving: Serving, tmp_path: Path, encoder: str, server: ChatServer):
    toy = Toy.write(tmp_path / "toy", encoder, server)
    toy.study["teacher"] = serving.settings().model_dump(mode="json", include={"model", "sampling", "concurrency"})
    toy.study["teacher"]["base_url"] = serving.base_url
    toy.study["arms"] = {"answers": ["answers"]}
    toy.study["seeds"] = [0]
    toy.save()
    done = toy.call()
    assert done.returncode == 0, done.stderr
    arm = json.loads((toy.runs / "report.json").read_bytes())["arms"]["answers"]
    dropped = sum(arm["rows"]["dropped"].values())
    assert arm["rows"]["in"] + arm["rows"]["made"] == arm["rows"]["kept"] + dropped + arm["rows"]["joined"]
    assert arm["rows"]["kept"] > 0
    assert arm["teacher"]["requests"] == 30
    assert server.requests == 0
    command = [sys.executable, "-m", "understudy", "doctor", "study.yaml", "--probe"]
    examined = subprocess.run(command, cwd=toy.folder, capture_output=True, text=True, timeout=120, check=False)
    assert examined.returncode == 0, examined.stdout + examined.stderr
    assert f"{serving.base_url} answers" in examined.stdout
    assert "teacher n: no" in examined.stdout


def test_what_it_can_do_is_found_though_it_says_nothing(serving: Serving):
    found = probe(serving.settings())
    assert found == Capabilities(n=False, schema=False, logprobs=False, usage=True, limits=False)
