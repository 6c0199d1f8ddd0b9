"""Pseudo-log-likelihood of sentences under a masked language model, by which it says which of two is the better one.

Each token in turn is hidden behind the mask token and its log-probability is read off: Salazar et al. 2020
(arXiv 1910.14659). Within words, the later tokens of a hidden token's word are hidden too, which takes away what makes
rare words of many tokens look likely: PLL-word-l2r of Kauf & Ivanova 2023 (arXiv 2305.10588).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from understudy.errors import DataError
from understudy.pretrained import quiet
from understudy.students.batches import padded
from understudy.students.language import positions_of
from understudy.students.log_likelihood import check_length
from understudy.students.tune import autocast

WINDOW = 1024  # sentences that are sorted by length together; no more are held in memory

Copy: TypeAlias = tuple[tuple[int, ...], int]  # the token ids with some masked, and the place that is looked at
Hidden: TypeAlias = tuple[int, int]  # the number of a sentence, and its token that is not to be seen


class Coded(NamedTuple):
    """A sentence in tokens."""

    ids: list[int]
    ends: dict[int, int]  # of each place that is scored, where what is masked from it on ends


def pseudo_log_likelihoods(
    network: Any,
    tokenizer: Any,
    sentences: Iterable[str],
    *,
    within_word: bool = False,
    batch_tokens: int = 1024,
    precision: str = "fp32",
) -> Iterator[float]:
    """The summed log-probability, in nats, of each sentence's tokens, in input order; memory does not grow with them.

    What the tokenizer puts around a sentence is read but not scored; a token for the unknown is scored as any other.
    Masked copies of like length go through the network together, one that two sentences share once, and the head sees
    the masked places only. Equal sentences of a window of 1024 have equal scores, to the last bit.

    Args:
        network: a masked language model of transformers, in eval mode.
        within_word: also hide the later tokens of a hidden token's word, as the tokenizer's ``word_ids`` tell words.
        batch_tokens: tokens a forward pass, padding included; a single longer copy has a pass of its own. The default
            suits a processor's cache; an accelerator wants more.
        precision: ``bf16``, ``fp32``, or ``auto``, which takes bf16 where the processor has it.

    Raises:
        DataError: the tokenizer has no mask or padding token, or cannot tell words where ``within_word`` asks for it;
            a sentence has no tokens or more than the model has positions.
    """
    for name in ("mask_token", "pad_token"):
        if getattr(tokenizer, f"{name}_id") is None:
            raise DataError(f"the tokenizer has no {name}; set it, or score the sentences by a causal model")
    if within_word and not tokenizer.is_fast:
        raise DataError(
            f"{type(tokenizer).__name__} cannot tell which tokens are one word; take within_word: false or a tokenizer "
            "that `tokenizers` runs"
        )
    limit, _ = positions_of(network)
    stream = iter(sentences)
    while window := list(islice(stream, WINDOW)):
        distinct = list(dict.fromkeys(window))
        coded = _coded(tokenizer, distinct, within_word)
        for sentence, one in zip(distinct, coded, strict=True):
            check_length(sentence, list(one.ends), one.ids, limit)
        totals = [0.0] * len(distinct)
        for batch in _batches(coded, tokenizer.mask_token_id, batch_tokens):
            hidden = [(line, *one) for line, some in enumerate(batch.values()) for one in some]
            with autocast(network.device, precision):
                found = _log_probabilities(network, list(batch), tokenizer.pad_token_id, hidden)
            for (_, number, _), value in zip(hidden, found.tolist(), strict=True):
                totals[number] += value
        of_sentence = dict(zip(distinct, totals, strict=True))
        yield from (of_sentence[sentence] for sentence in window)


def _coded(tokenizer: Any, sentences: list[str], within_word: bool) -> list[Coded]:
    with quiet():  # it warns of sentences longer than the model
        how = {"return_special_tokens_mask": True, "return_attention_mask": False}
        read = tokenizer(sentences, split_special_tokens=True, **how)  # <mask> in a sentence is but text
    coded = []
    for number, (ids, special) in enumerate(zip(read["input_ids"], read["special_tokens_mask"], strict=True)):
        words = read.word_ids(number) if within_word else range(len(ids))
        ends: dict[int, int] = {}
        for place in reversed(range(len(ids))):
            if not special[place]:
                goes_on = place + 1 in ends and words[place] is not None and words[place] == words[place + 1]
                ends[place] = ends[place + 1] if goes_on else place + 1
        coded.append(Coded(ids, ends))
    return coded


def _batches(coded: Sequence[Coded], mask_id: int, batch_tokens: int) -> Iterator[dict[Copy, list[Hidden]]]:
    """Masked copies, shortest first, and whose they are: of a pair that differs in one token, the copy without it."""
    batch: dict[Copy, list[Hidden]] = {}
    for number in sorted(range(len(coded)), key=lambda number: len(coded[number].ids)):
        ids, ends = coded[number]
        for place, end in ends.items():
            copy = ((*ids[:place], *[mask_id] * (end - place), *ids[end:]), place)
            if batch and copy not in batch and len(ids) * (len(batch) + 1) > batch_tokens:
                yield batch
                batch = {}
            batch.setdefault(copy, []).append((number, ids[place]))
    if batch:
        yield batch


@torch.inference_mode()
def _log_probabilities(
    network: Any, copies: Sequence[Copy], pad_id: int, hidden: Sequence[tuple[int, int, int]]
) -> Tensor:
    """Of each hidden token, float32; ``hidden`` are the line of its copy, the number of its sentence, and itself."""
    ids, mask = padded([copy for copy, _ in copies], pad_id, network.device)
    logits = _logits_at(network, ids, mask, torch.tensor([place for _, place in copies], device=ids.device)).float()
    lines, _, tokens = torch.tensor(hidden, device=ids.device).unbind(1)
    return logits[lines, tokens] - logits.logsumexp(-1)[lines]


def _logits_at(network: Any, ids: Tensor, mask: Tensor, places: Tensor) -> Tensor:
    """The logits at one place of each row, (rows, vocabulary).

    What the body of the network hands on is cut down to these places, so that the head, whatever it is made of, works
    on them alone. Where there is no body to be found, or none that hands on a state a token, the head sees all.
    """
    rows = torch.arange(len(places), device=ids.device)

    def chosen(_module: nn.Module, _given: Any, output: Any) -> Any:
        states = getattr(output, "last_hidden_state", None)
        if states is not None and states.shape[:2] == ids.shape:
            output.last_hidden_state = states[rows, places].unsqueeze(1)
        return output

    hook = network.base_model.register_forward_hook(chosen)
    try:
        logits = network(input_ids=ids, attention_mask=mask).logits
    finally:
        hook.remove()
    return logits[:, 0] if logits.shape[1] == 1 else logits[rows, places]
