"""One loaded model that answers a batch of requests. Loads torch and transformers: import it on use only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.utils import logging

from understudy.errors import DataError, TeacherError
from understudy.teachers.request import Refused, Request

_DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MAX_TOKENS = 256

Answer = tuple[str, str, int, int, str]
"""Text, finish reason, prompt tokens, completion tokens, model."""


class LocalModel:
    """A model and its tokenizer on the best device there is."""

    def __init__(self, folder: str, name: str, dtype: str) -> None:
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self.model: Any = kind.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=_DTYPES[dtype]
            )
        except Exception as error:  # whatever a broken folder makes transformers raise
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"teacher.model: {folder!r} cannot be loaded: {first}") from error
        finally:
            if bars:
                logging.enable_progress_bar()
        self.model = self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.name = name
        self.is_stopped = False
        """Set it to end the batch at work at its next token."""
        self._is_seq2seq: bool = config.is_encoder_decoder
        self._pad: int = self.tokenizer.pad_token_id or 0  # masked, so any token will do
        ends = self.model.generation_config.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])

    def answer(self, requests: Sequence[Request]) -> list[Answer | Refused]:
        """Answer requests with equal sampling, in their order."""
        prompts = [self._tokens(request) for request in requests]
        fits = [i for i, prompt in enumerate(prompts) if not isinstance(prompt, Refused)]
        answers: list[Any] = list(prompts)
        if fits:
            made = self._generate([requests[i] for i in fits], [answers[i] for i in fits])
            for i, answer in zip(fits, made, strict=True):
                answers[i] = answer
        return answers

    def _tokens(self, request: Request) -> list[int] | Refused:
        messages = list(request.messages)
        if self.tokenizer.chat_template:
            try:
                text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            except (jinja2.TemplateError, ValueError) as error:
                return Refused("bad_request", f"the model's chat template does not take these messages: {error}")
        else:
            text = "\n\n".join(message["content"] for message in messages)
        tokens = self.tokenizer(text, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]
        room = getattr(self.model.config, "max_position_embeddings", None)
        longest = request.sampling.get("max_tokens", _MAX_TOKENS)
        if room is not None and len(tokens) + longest > room:
            return Refused("too_long", f"{len(tokens)} prompt tokens and {longest} for the answer; {room} have room")
        return tokens

    @torch.inference_mode()
    def _generate(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> list[Answer]:
        sampling = requests[0].sampling
        stops = list(sampling.get("stop") or ())
        ids, mask = self._padded(prompts)
        start = 1 if self._is_seq2seq else ids.shape[1]  # where the answer starts
        output = self.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=sampling.get("max_tokens", _MAX_TOKENS),
            do_sample=False,  # _Draw draws
            num_beams=1,
            pad_token_id=self._pad,
            logits_processor=_draws(requests),
            stopping_criteria=StoppingCriteriaList([_Ends(self, stops, start)]),
        )
        if self.is_stopped:
            raise TeacherError("the teacher was closed while it was writing an answer")
        made = output[:, start:].tolist()
        return [self._answer(prompt, tokens, stops) for prompt, tokens in zip(prompts, made, strict=True)]

    def _padded(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and mask, (batch, longest prompt): a decoder goes on at the right end, so it is padded at the left."""
        width = max(map(len, prompts))
        ids, mask = torch.full((len(prompts), width), self._pad), torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            where = slice(0, len(prompt)) if self._is_seq2seq else slice(width - len(prompt), width)
            ids[row, where] = torch.tensor(prompt)
            mask[row, where] = 1
        return ids.to(self.model.device), mask.to(self.model.device)

    def _answer(self, prompt: list[int], tokens: list[int], stops: Sequence[str]) -> Answer:
        ends = [i for i, token in enumerate(tokens) if token in self._ends]
        has_ended = bool(ends)
        tokens = tokens[: ends[0]] if ends else tokens
        text = self.text_of(tokens)
        if any(stop in text for stop in stops):
            has_ended = True
            # what follows in this row is the batch's padding: count the tokens as if it had been alone
            count = next(n for n in range(len(tokens) + 1) if any(stop in self.text_of(tokens[:n]) for stop in stops))
            tokens, text = tokens[:count], text[: min(text.find(stop) for stop in stops if stop in text)]
        return text, "stop" if has_ended else "length", len(prompt), len(tokens), self.name

    def text_of(self, tokens: list[int]) -> str:
        """The text of an answer's tokens."""
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


class _Draw(LogitsProcessor):
    """Makes the likeliest token a drawn one by adding Gumbel noise, for each row from a generator of its own."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """``scores`` (batch, vocabulary) plus noise; the argmax is then a draw from their softmax."""
        uniform = torch.stack([torch.rand(scores.shape[1], generator=each) for each in self._generators])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return scores.float() + noise.to(scores.device)


class _Ends(StoppingCriteria):
    """Ends a row at a stop text, and all rows when the model is stopped.

    transformers has stop strings too, but it must take the vocabulary apart for them, which fails for some tokenizers.
    """

    def __init__(self, model: LocalModel, stops: Sequence[str], start: int) -> None:
        self._model, self._stops, self._start = model, stops, start
        self._tail = max(map(len, stops), default=0) + 8  # tokens: one holds at least one character, or a part of it

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> Any:
        """One boolean a row of ``input_ids`` (batch, length)."""
        answers = input_ids[:, max(self._start, input_ids.shape[1] - self._tail) :].tolist() if self._stops else []
        ended = [self._model.is_stopped] * input_ids.shape[0]
        for row, tokens in enumerate(answers):
            text = self._model.text_of(tokens)
            ended[row] |= any(stop in text for stop in self._stops)
        return torch.tensor(ended, device=input_ids.device)


def _draws(requests: Sequence[Request]) -> LogitsProcessorList:
    sampling = requests[0].sampling
    temperature, top_p = sampling.get("temperature"), sampling.get("top_p")
    if not temperature:
        return LogitsProcessorList()
    steps: list[LogitsProcessor] = [TemperatureLogitsWarper(float(temperature))]
    if top_p is not None:
        steps.append(TopPLogitsWarper(top_p))
    seeds = [int(request.key.rpartition(":")[2][:15], 16) for request in requests]
    return LogitsProcessorList([*steps, _Draw(seeds)])
