"""One loaded model that answers a batch of requests. Loads torch and transformers: import it on use only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jinja2
import orjson
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from understudy.errors import DataError, TeacherError
from understudy.generation import Choose, Written, written
from understudy.pretrained import loading
from understudy.teachers.request import Refused, Reply, Request

_DTYPES = {"auto": "auto", "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MAX_TOKENS = 256


class LocalModel:
    """A model and its tokenizer on the best device there is."""

    def __init__(self, folder: str, name: str, dtype: str) -> None:
        try:
            with loading():
                config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
                self.model: Any = kind.from_pretrained(
                    folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=_DTYPES[dtype]
                )
            self.tokenizer: Any = tokenizer
        except Exception as error:  # whatever a broken folder makes transformers raise
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(f"teacher.model: {folder!r} cannot be loaded: {first}") from error
        self.model = self.model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.name = name
        self.is_stopped = False
        """Set it to end the batch at work at its next token."""
        told = self.model.generation_config
        ends = told.eos_token_id
        self._ends = set(ends if isinstance(ends, list) else [ends])
        self._start = _start_of(self.model, folder) if config.is_encoder_decoder else []

    def answer(
        self, requests: Sequence[Request], rows: int, is_wanted: Callable[[int], bool]
    ) -> Iterator[tuple[int, Reply | Refused]]:
        """Answer requests with equal sampling: the number of each and its reply, as soon as it is written.

        Args:
            rows: most of them at a time.
            is_wanted: whether a request still is; what is written to others ends.

        Raises:
            TeacherError: the model was stopped.
        """
        prompts: dict[int, list[int]] = {}
        for number, request in enumerate(requests):
            tokens = self._tokens(request)
            if isinstance(tokens, Refused):
                yield number, tokens
            else:
                prompts[number] = tokens
        numbers, sampling = list(prompts), requests[0].sampling
        stops = list(sampling.get("stop") or ())
        tail = max(map(len, stops), default=0) + 8  # tokens: one holds at least one character, or a part of it

        def is_over(place: int, tokens: Sequence[int]) -> bool:
            if self.is_stopped:
                raise TeacherError("the teacher was closed while it was writing an answer")
            text = self._text_of(tokens[-tail:]) if stops else ""
            return any(stop in text for stop in stops) or not is_wanted(numbers[place])

        for place, answer in written(
            self.model,
            list(prompts.values()),
            max_new_tokens=sampling.get("max_tokens", _MAX_TOKENS),
            ends=self._ends,
            pad_id=self.tokenizer.pad_token_id or 0,
            start=self._start,
            choose=_draws([requests[number] for number in numbers]) if numbers else None,
            is_over=is_over,
            rows=rows,
        ):
            number = numbers[place]
            yield number, self._reply(len(prompts[number]), answer, stops)

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
        if not tokens:
            return Refused("bad_request", "the prompt has no tokens")
        room = getattr(self.model.config, "max_position_embeddings", None)
        longest = request.sampling.get("max_tokens", _MAX_TOKENS)
        if room is not None and len(tokens) + longest > room:
            return Refused("too_long", f"{len(tokens)} prompt tokens and {longest} for the answer; {room} have room")
        return tokens

    def _reply(self, prompt_tokens: int, answer: Written, stops: Sequence[str]) -> Reply:
        tokens = answer.tokens[:-1] if answer.tokens[-1] in self._ends else answer.tokens
        text = self._text_of(tokens)
        text = text[: min((text.find(stop) for stop in stops if stop in text), default=None)]
        raw = orjson.dumps({"mean_logprob": round(answer.mean_logprob, 4)})  # what padding rounds away is left out
        return Reply(text, answer.finish, prompt_tokens, len(tokens), 0.0, self.name, raw=raw)

    def _text_of(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)


def _start_of(model: Any, folder: str) -> list[int]:
    """What the decoder of an encoder-decoder is given."""
    told = model.generation_config
    known = [told.decoder_start_token_id, getattr(model.config, "decoder_start_token_id", None), told.bos_token_id]
    start = next((token for token in known if token is not None), None)
    if start is None:
        raise DataError(
            f"teacher.model: {folder!r} does not say what its decoder starts with; "
            "set decoder_start_token_id in its config.json"
        )
    return [start] if told.forced_bos_token_id is None else [start, told.forced_bos_token_id]


def _draws(requests: Sequence[Request]) -> Choose | None:
    """How tokens are drawn: for each request with a generator of its own. None: the likeliest is taken.

    Gumbel noise makes the likeliest token a draw from the softmax.
    """
    sampling = requests[0].sampling
    temperature, top_p = sampling.get("temperature"), sampling.get("top_p")
    if not temperature:
        return None
    narrow: list[Any] = [TemperatureLogitsWarper(float(temperature))]
    if top_p is not None:
        narrow.append(TopPLogitsWarper(top_p))
    seeds = [int(request.key.rpartition(":")[2][:15], 16) for request in requests]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(logits: Tensor, places: Sequence[int]) -> Tensor:
        for step in narrow:
            logits = step(None, logits)
        uniform = torch.stack([torch.rand(logits.shape[1], generator=generators[place]) for place in places])
        noise = -torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7)))
        return (logits + noise.to(logits.device)).argmax(-1)

    return choose
