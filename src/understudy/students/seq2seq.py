"""The seq2seq student: an encoder-decoder that reads the question and learns to write answer and explanations.

Answer and explanations each end with the stop token. A line break between them, as a causal student has it, is lost
in tokenizers such as T5's, and the answer would have no end; so what is written up to the first stop token is the
answer, in every base, and the explanations cost nothing when the student answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor
from transformers import GenerationConfig

from understudy.errors import DataError
from understudy.generation import generate
from understudy.records import Example
from understudy.students import course, serial
from understudy.students.answers import BATCH_TOKENS, LanguageModel
from understudy.students.batches import padded
from understudy.students.choices import Ranked, rank_seq2seq
from understudy.students.course import Laid
from understudy.students.language import encode, frame_of, longest_of, read_base, stop_of
from understudy.students.packing import IGNORED
from understudy.students.scratch import seq2seq_from_scratch
from understudy.students.settings import Seq2SeqScratch, Seq2SeqSettings
from understudy.students.written import opened
from understudy.task import Task

__all__ = ["check", "load", "train"]

CPU = torch.device("cpu")


class Pair(TypedDict):
    """Token ids that the encoder reads, and those that the decoder writes, its start token not among them."""

    input_ids: list[int]
    labels: list[int]


def open_base(settings: Seq2SeqSettings, texts: Iterable[str]) -> tuple[Any, Any]:
    """The network, float32, and its tokenizer. ``texts`` train the tokenizer of a network with random weights.

    Raises:
        DataError: as ``read_base``, or the base has no stop token, padding token or token that its decoder starts with.
    """
    if isinstance(settings.base, Seq2SeqScratch):
        network, tokenizer = seq2seq_from_scratch(settings.base, texts)
    else:
        network, tokenizer = read_base(settings.base, settings.revision, "seq2seq")
    config = network.config
    if tokenizer.pad_token_id is None:
        raise DataError(f"student.base: {settings.base!r} has no padding token; set pad_token in its tokenizer")
    start = getattr(config, "decoder_start_token_id", None)
    start = network.generation_config.decoder_start_token_id if start is None else start
    if start is None:
        raise DataError(
            f"student.base: {settings.base!r} does not say what its decoder starts with; "
            "set decoder_start_token_id in its config.json"
        )
    config.pad_token_id, config.decoder_start_token_id = tokenizer.pad_token_id, start
    opening, _ = frame_of(tokenizer, written=True)
    # Beams, lengths and forbidden repeats that the base was published with belong to another task.
    network.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        eos_token_id=stop_of(network, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        forced_bos_token_id=opening[0] if opening else None,
    )
    network.accepts_loss_kwargs = False  # told to Trainer: forward takes the count of tokens, and does not use it
    return network, tokenizer


def pairs_of(
    examples: Sequence[Example],
    task: Task,
    tokenizer: Any,
    stop: int,
    settings: Seq2SeqSettings,
    limits: tuple[int, int],
    preface: str = "",
) -> tuple[list[Pair], int, int]:
    """Each example as it is learnt; how many questions and how many answers with explanations were longer.

    Of a question the last tokens are kept. What is written is cut at its end, and then has no stop token: it would
    teach the student to stop in the middle.

    Args:
        limits: the most tokens that are read and written.

    Raises: as ``serial.answer_parts``.
    """
    (before, after), (opening, _) = frame_of(tokenizer), frame_of(tokenizer, written=True)
    room = limits[0] - len(before + after)
    pairs, questions, written = [], 0, 0
    texts = [_texts(one, task, settings, preface) for one in examples]
    prompts, answers, reasons = (encode(tokenizer, [text[i] for text in texts]) for i in range(3))
    for (prompt,), answer, (reason,) in zip(prompts, answers, reasons, strict=True):
        labels = opening + [token for part in answer for token in part] + [stop]
        labels += reason + [stop] if reason else []
        questions += len(prompt) > room
        written += len(labels) > limits[1]
        pairs.append(Pair(input_ids=before + prompt[-room:] + after, labels=labels[: limits[1]]))
    return pairs, questions, written


def lay(
    network: Any, tokenizer: Any, lessons: list[Example], task: Task, settings: Seq2SeqSettings, preface: str = ""
) -> Laid:
    """The rows as the network takes them."""
    stop = stop_of(network, tokenizer)
    limits = longest_of(network, settings.max_length), longest_of(network, settings.max_target_length)
    pairs, questions, written = pairs_of(lessons, task, tokenizer, stop, settings, limits, preface)
    config = network.config
    return Laid(
        rows=pairs,
        tokens=[len(pair["input_ids"]) + len(pair["labels"]) for pair in pairs],
        collate=partial(batch_of, start=config.decoder_start_token_id, pad_id=config.pad_token_id),
        by_length=True,
        details={
            "truncated": questions,
            "truncated_targets": written,
            "layout": "grouped by length: an encoder-decoder is not packed",
        },
    )


def batch_of(pairs: Sequence[Pair], *, start: int, pad_id: int) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask``, (rows, longest), ``labels`` and ``decoder_input_ids``, likewise."""
    ids, mask = padded([pair["input_ids"] for pair in pairs], pad_id, CPU)
    labels, _ = padded([pair["labels"] for pair in pairs], IGNORED, CPU)
    shifted, _ = padded([[start, *pair["labels"][:-1]] for pair in pairs], pad_id, CPU)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "decoder_input_ids": shifted}


class Seq2SeqModel(LanguageModel):
    """A trained seq2seq student; what it writes ends with the stop token."""

    def _scores(self, parts: Sequence[tuple[str, ...]], name_of: Callable[[int], str]) -> Iterator[list[Ranked]]:
        prompts = self.read([prompt for prompt, *_ in parts])
        answers = encode(self.tokenizer, [_begun(rest) for _, *rest in parts])
        rows = [
            (prompt, options, self._opening + lead) for prompt, (lead, *options) in zip(prompts, answers, strict=True)
        ]
        return rank_seq2seq(self.network, rows, pad_id=self._pad, batch_tokens=BATCH_TOKENS, name_of=name_of)

    def read(self, prompts: Sequence[str]) -> list[list[int]]:
        return [self._framed(prompt) for (prompt,) in encode(self.tokenizer, [(prompt,) for prompt in prompts])]

    def _answers(self, prompts: Sequence[list[int]]) -> list[str]:
        answers = generate(
            self.network,
            prompts,
            max_new_tokens=self.about.max_new_tokens,
            ends={self._stop},
            pad_id=self._pad,
            start=[self.network.config.decoder_start_token_id, *self._opening],
            **self._room,
        )
        texts = self.tokenizer.batch_decode([one.tokens for one in answers], skip_special_tokens=True)
        return [text if self.about.bare else text.strip() for text in texts]

    def _framed(self, prompt: list[int]) -> list[int]:
        """The last tokens of a prompt, with what the tokenizer puts around a text."""
        before, after = self._frame
        room = longest_of(self.network, self.about.max_length) - len(before + after)
        return before + self._last(prompt, room) + after

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        return frame_of(self.tokenizer)

    @cached_property
    def _opening(self) -> list[int]:
        return frame_of(self.tokenizer, written=True)[0]

    @property
    def _pad(self) -> int:
        return self.network.config.pad_token_id


train = partial(course.train, open_base=open_base, lay=lay)
check = partial(course.check, open_base=open_base)


def load(folder: Path) -> Seq2SeqModel:
    """See ``understudy.students.load_model``."""
    return Seq2SeqModel(*opened(folder))


def _texts(
    example: Example, task: Task, settings: Seq2SeqSettings, preface: str
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The parts of what is read, of the answer, and of the explanations."""
    if settings.prompt == "bare":
        prompt, target = serial.bare_of(example, task)
        return (prompt,), (target,), ("",)
    answer = _begun(serial.answer_parts(example, task, settings.rank_by))
    return (serial.prompt_of(example, preface),), answer, (serial.explanations_of(example),)


def _begun(parts: Sequence[str]) -> tuple[str, ...]:
    """The parts of a text that no other goes before."""
    return parts[0].lstrip(), *parts[1:]
