"""The causal student: a language model that learns question, answer and explanations as one text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from understudy.errors import DataError
from understudy.generation import generate
from understudy.records import Example
from understudy.students import Trained, course, pretraining, serial
from understudy.students.answers import BATCH_TOKENS, LanguageModel
from understudy.students.choices import Ranked, rank
from understudy.students.course import Laid
from understudy.students.language import encode, frame_of, longest_of, read_base, stop_of
from understudy.students.masking import Drawn
from understudy.students.packing import IGNORED, Row, attention, isolates, packed, padded_rows, shares_out
from understudy.students.pretraining import Laying, Probe, Way
from understudy.students.scratch import causal_from_scratch, tokenizer_of
from understudy.students.sentences import SentenceModel
from understudy.students.settings import CausalScratch, CausalSettings
from understudy.students.written import opened
from understudy.task import Task

__all__ = ["check", "load", "train"]


def open_base(settings: CausalSettings, texts: Iterable[str]) -> tuple[Any, Any]:
    """The network, float32, and its tokenizer. ``texts`` train the tokenizer of a network with random weights.

    Raises:
        DataError: as ``read_base``, or the base sees later tokens, or has no stop token.
    """
    if isinstance(settings.base, CausalScratch):
        tokenizer = tokenizer_of(texts, settings.base.vocab_size)
        return causal_from_scratch(settings.base, tokenizer, settings.max_length + settings.max_new_tokens), tokenizer
    network, tokenizer = read_base(settings.base, settings.revision, "causal")
    if not _reads_forward(network):
        raise DataError(
            f"student.base: {settings.base!r} sees the tokens after the one it predicts; use a causal model"
        )
    # Sampling, penalties and least lengths that the base was published with are not this student's.
    network.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=stop_of(network, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    return network, tokenizer


def rows_of(
    examples: Sequence[Example],
    task: Task,
    tokenizer: Any,
    stop: int,
    settings: CausalSettings,
    limit: int,
    preface: str = "",
) -> tuple[list[Row], int]:
    """Each example as it is learnt, at most its last ``limit`` tokens; and how many were longer.

    Raises: as ``serial.answer_parts``.
    """
    rows, cut, (start, _) = [], 0, frame_of(tokenizer)
    texts = [
        serial.text_of(example, task, settings.rank_by, preface, bare=settings.prompt == "bare") for example in examples
    ]
    for prompt, *rest in encode(tokenizer, texts):
        answer = [token for part in rest for token in part] + [stop]
        ids = start + prompt + answer
        labels = ids if settings.loss_on == "all" else [IGNORED] * len(start + prompt) + answer
        cut += len(ids) > limit
        rows.append(Row(input_ids=ids[-limit:], labels=[IGNORED, *labels[-limit:][1:]]))
    return rows, cut


def lay(
    network: Any, tokenizer: Any, lessons: list[Example], task: Task, settings: CausalSettings, preface: str = ""
) -> Laid:
    """The rows as the network takes them: packed where it can."""
    stop, limit = stop_of(network, tokenizer), longest_of(network, settings.max_length)
    rows, cut = rows_of(lessons, task, tokenizer, stop, settings, limit, preface)
    why = _not_packed(network, settings, limit)
    return Laid(
        rows=rows,
        tokens=[len(row["input_ids"]) for row in rows],
        collate=partial(padded_rows, pad_id=stop) if why else packed,
        by_length=bool(why),
        details={"truncated": cut, "layout": f"grouped by length: {why}" if why else "packed"},
    )


def _not_packed(network: Any, settings: CausalSettings, limit: int) -> str | None:
    """Why rows are not packed, if they are not; otherwise the network is ready for packed ones."""
    if not settings.packing:
        return "packing is off"
    if shares_out():
        return "one process trains on several accelerators, torchrun would pack"
    return None if isolates(network, limit) else "the base does not keep packed rows apart"


class CausalModel(LanguageModel):
    """A trained causal student; what it writes ends with the line, or, with ``prompt: bare``, with the stop token."""

    def _scores(self, parts: Sequence[tuple[str, ...]], name_of: Callable[[int], str]) -> Iterator[list[Ranked]]:
        rows = []
        for prompt, lead, *options in encode(self.tokenizer, parts):
            room = longest_of(self.network, self.about.max_length) - max(map(len, options))
            rows.append((self._last(self._start + prompt + lead, room), options))
        return rank(self.network, rows, pad_id=self._stop, batch_tokens=BATCH_TOKENS, name_of=name_of)

    def read(self, prompts: Sequence[str]) -> list[list[int]]:
        limit = longest_of(self.network, self.about.max_length + self.about.max_new_tokens)
        room = min(self.about.max_length, max(limit - self.about.max_new_tokens, limit // 2))
        coded = encode(self.tokenizer, [(prompt,) for prompt in prompts])
        return [self._last(self._start + prompt, room) for (prompt,) in coded]

    def _answers(self, prompts: Sequence[list[int]]) -> list[str]:
        answers = generate(
            self.network,
            prompts,
            max_new_tokens=self.about.max_new_tokens,
            ends=self._ends,
            pad_id=self._stop,
            **self._room,
        )
        texts = self.tokenizer.batch_decode([one.tokens for one in answers], skip_special_tokens=True)
        return [text if self.about.bare else text.partition("\n")[0].strip() for text in texts]

    @cached_property
    def _start(self) -> list[int]:
        return frame_of(self.tokenizer)[0]

    @cached_property
    def _ends(self) -> set[int]:
        """The stop token, and the tokens that end a line, which ends an answer unless it is bare."""
        if self.about.bare:
            return {self._stop}
        texts = self.tokenizer.batch_decode([[i] for i in range(len(self.tokenizer))])
        return {self._stop, *(i for i, text in enumerate(texts) if "\n" in text)}


def lay_text(settings: CausalSettings, network: Any, tokenizer: Any, device: torch.device) -> Laying:
    """Raw text as batches: each piece stands between stop tokens, behind which its first token is learnt."""
    stop = stop_of(network, tokenizer)
    start = stop if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    why = _not_packed(network, settings, longest_of(network, settings.max_length))

    def collate(batch: Sequence[Drawn]) -> dict[str, Any]:
        pieces = [piece.tolist() for one in batch for piece in one.pieces]
        rows = [Row(input_ids=piece, labels=[IGNORED, *piece[1:]]) for piece in pieces]
        return padded_rows(rows, pad_id=stop) if why else packed(rows)

    layout = f"grouped by length: {why}" if why else "packed"
    return Laying([start], [stop], collate, not why, layout, aside=partial(attention, network, None if why else "sdpa"))


WAY = Way(
    tokenizer=lambda scratch, texts: tokenizer_of(texts, scratch.vocab_size),
    network=causal_from_scratch,
    base=lambda settings: open_base(settings, ()),
    lay=lay_text,
)


def train(
    settings: CausalSettings,
    task: Task,
    examples: Iterable[Example],
    folder: Path,
    *,
    shots: Sequence[Example] = (),
    held_back: Iterable[Example] = (),
    probe: Probe | None = None,
    **more: Any,
) -> Trained:
    """See ``understudy.students.train``."""
    if task.kind == "pretraining":
        return pretraining.train(settings, task, examples, folder, held_back=held_back, probe=probe, way=WAY, **more)
    return course.train(settings, task, examples, folder, shots=shots, open_base=open_base, lay=lay, **more)


check = partial(course.check, open_base=open_base)


def load(folder: Path) -> CausalModel | SentenceModel:
    """See ``understudy.students.load_model``."""
    network, tokenizer, about = opened(folder)
    model = SentenceModel if about.task == "pretraining" else CausalModel
    return model(network, tokenizer, about)


@torch.no_grad()
def _reads_forward(network: Any) -> bool:
    ids = torch.tensor([[0, 1, 2], [0, 1, 3]])
    a, b = network.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[:, :2]
    return bool(torch.allclose(a, b, atol=1e-4 * float(a.std())))
