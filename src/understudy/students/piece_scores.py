"""How surprising each piece of a text is to a trained student: predictive entropy and loss under teacher forcing.

The scores by which AS-ES (arXiv 2403.01969) tells abstractive from extractive pieces. A prompt goes through the
network once, in a batch with others; its key-value cache, for an encoder-decoder with the keys of what the encoder
read, is then shared by all that follows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from understudy.errors import DataError
from understudy.segment import separator
from understudy.students.answers import LanguageModel
from understudy.students.batches import by_length, padded
from understudy.students.choices import CACHED_A_TOKEN, cache_of, positions_of
from understudy.students.language import encode, frame_of, longest_of

WINDOW = 1024  # rows that are sorted by length together; no more are held in memory
BATCH_TOKENS = 1024
READ_TOGETHER = 4  # batches of prompts: of more pieces, those of a batch are more alike in length
LOGITS = 2**26  # of a batch: fewer tokens where the vocabulary is large
CHUNK = 2**18  # logits that are looked at together: they stay in a processor's cache
PAD = 0  # any token id: it is never attended to

Sees: TypeAlias = Literal["question", "earlier"]
Texts: TypeAlias = list[tuple[str, ...]]  # in the parts that are tokenised one by one


@dataclass(frozen=True, slots=True)
class PieceScore:
    """What a student makes of one piece: nats, summed over its tokens; the stop token is not among them."""

    entropy: float
    loss: float
    tokens: int


NOTHING = PieceScore(0.0, 0.0, 0)


class Stretch(NamedTuple):
    """Tokens that are forced after a prompt."""

    text: int
    owner: int  # the number of its prompt
    ids: list[int]
    known: int  # so many of them have their scores from the stretch before


@dataclass(frozen=True, slots=True)
class _Begun:
    """Prompts that the network has read."""

    logits: Tensor  # (prompts, vocabulary): of what follows them
    cache: Any
    mask: Tensor  # (prompts, places): of a causal model's cache, or of what an encoder read
    encoded: Tensor | None  # (prompts, places, width)


def score_pieces(
    model: LanguageModel,
    rows: Iterable[tuple[str, Sequence[str]]],
    *,
    sees: Sees = "question",
    batch_tokens: int = BATCH_TOKENS,
) -> Iterator[list[PieceScore]]:
    """The score of every piece of every row, in input order; memory does not grow with the rows.

    Of a prompt that is longer than the student reads the last tokens are kept, as in ``predict``. A text that goes
    beyond its positions is scored in stretches that overlap by half, so that every token is scored once.

    Args:
        model: a causal or seq2seq student that was trained with ``prompt: bare``.
        rows: a prompt and the pieces of the text that follows it.
        sees: what stands between the prompt and a piece: nothing, as in the authors' code, or the pieces before it,
            joined as ``segment.joined`` does.
        batch_tokens: tokens a forward pass, padding included, and of prompts four times as many. The default suits a
            processor's cache; an accelerator wants more.

    Raises:
        DataError: a prompt has no tokens.
    """
    network = model.network
    start: list[int] = []
    if network.config.is_encoder_decoder:
        start = [network.config.decoder_start_token_id, *frame_of(model.tokenizer, written=True)[0]]
    limit = longest_of(network, model.about.max_length + model.about.max_new_tokens)
    stream = iter(rows)
    while window := list(islice(stream, WINDOW)):
        prompts = model.read([prompt for prompt, _ in window])
        for (prompt, _), ids in zip(window, prompts, strict=True):
            if not ids:
                raise DataError(f"input {prompt[:40]!r}: there are no tokens to go on from; give it an input")
        owned = [(owner, text) for owner, row in enumerate(window) for text in _texts(*row, sees)]
        coded = _coded(model.tokenizer, [text for _, text in owned], bool(start))
        stretches = []
        for number, ((owner, _), parts) in enumerate(zip(owned, coded, strict=True)):
            room = max(1, limit - len(start or prompts[owner]))
            stretches += _stretches(number, owner, [token for part in parts for token in part], room)
        found = _found(network, start, prompts, stretches, len(owned), batch_tokens)
        scores: list[list[PieceScore]] = [[] for _ in window]
        for (owner, _), parts, tokens in zip(owned, coded, found, strict=True):
            scores[owner] += _summed(parts, tokens)
        for (_, pieces), some in zip(window, scores, strict=True):
            scored = iter(some)
            yield [next(scored) if piece.strip() else NOTHING for piece in pieces]


def _texts(prompt: str, pieces: Sequence[str], sees: Sees) -> Texts:
    """What is forced, as students learn to write it, without pieces of white space alone."""
    bare = [text for piece in pieces if (text := piece.strip())]
    if sees == "question":
        return [(separator(prompt, text) + text,) for text in bare]
    return [tuple(separator(a, b) + b for a, b in zip([prompt, *bare], bare, strict=False))] if bare else []


def _coded(tokenizer: Any, texts: Texts, is_pair: bool) -> list[list[list[int]]]:
    """Token ids of each part; a causal model's text follows its prompt."""
    if is_pair:
        return encode(tokenizer, texts)
    return [parts for _, *parts in encode(tokenizer, [("", *parts) for parts in texts])]


def _stretches(text: int, owner: int, ids: list[int], room: int) -> Iterator[Stretch]:
    """The tokens in stretches of at most ``room``."""
    known = 0
    while known < len(ids):
        end = min(len(ids), known + (max(1, room // 2) if known else room))
        first = max(0, end - room)
        yield Stretch(text, owner, ids[first:end], known - first)
        known = end


def _summed(parts: list[list[int]], tokens: list[Tensor]) -> Iterator[PieceScore]:
    """The scores of each part, from those of all tokens."""
    if not tokens:
        yield from (NOTHING for _ in parts)
        return
    for part in torch.cat(tokens).double().split([len(part) for part in parts]):
        entropy, loss = part.sum(0).tolist()
        yield PieceScore(entropy, loss, len(part))


@torch.inference_mode()
def _found(
    network: Any, start: list[int], prompts: list[list[int]], stretches: list[Stretch], texts: int, batch_tokens: int
) -> list[list[Tensor]]:
    """Entropy and loss of the tokens of each text, (tokens, 2), in parts."""
    of_prompt: list[list[Stretch]] = [[] for _ in prompts]
    for stretch in stretches:
        of_prompt[stretch.owner].append(stretch)
    asked = [owner for owner, some in enumerate(of_prompt) if some]
    found: list[list[Tensor]] = [[] for _ in range(texts)]
    for batch in by_length([len(prompts[owner]) for owner in asked], READ_TOGETHER * batch_tokens):
        owners = [asked[i] for i in batch]
        begun = (_encoded if start else _prefilled)(network, [prompts[owner] for owner in owners], start)
        some = [one._replace(owner=place) for place, owner in enumerate(owners) for one in of_prompt[owner]]
        for one, scores in zip(some, _forced(network, begun, some, batch_tokens).cpu(), strict=True):
            found[one.text].append(scores[one.known : len(one.ids)])
    return found


def _prefilled(network: Any, prompts: list[list[int]], _: list[int]) -> _Begun:
    # Padded on the left, so that every prompt ends in the last column.
    ids, mask = (t.flip(1) for t in padded([prompt[::-1] for prompt in prompts], PAD, network.device))
    read = network(
        input_ids=ids, attention_mask=mask, position_ids=positions_of(mask), logits_to_keep=1, use_cache=True
    )
    return _Begun(read.logits[:, -1], read.past_key_values, mask, None)


def _encoded(network: Any, prompts: list[list[int]], start: list[int]) -> _Begun:
    ids, mask = padded(prompts, PAD, network.device)
    encoded = network.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
    given = torch.tensor(start, device=ids.device).expand(len(ids), -1)
    read = network(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded), attention_mask=mask, decoder_input_ids=given,
        use_cache=True,
    )  # fmt: skip
    return _Begun(read.logits[:, -1], read.past_key_values, mask, encoded)


def _forced(network: Any, begun: _Begun, stretches: list[Stretch], batch_tokens: int) -> Tensor:
    """Entropy and loss of each token, (stretches, longest, 2); where a stretch has ended there are zeros."""
    device = begun.mask.device
    wanted, _ = padded([one.ids for one in stretches], PAD, device)
    owners = torch.tensor([one.owner for one in stretches], device=device)
    scores = torch.zeros(*wanted.shape, 2, device=device)
    scores[:, 0] = _entropy_and_loss(begun.logits, owners, wanted[:, 0])
    longer = [i for i, one in enumerate(stretches) if len(one.ids) > 1]
    cached = begun.mask.shape[1] // CACHED_A_TOKEN
    most = min(batch_tokens, LOGITS // begun.logits.shape[1])
    for part in by_length([cached + len(stretches[i].ids) - 1 for i in longer], most):
        chosen = [longer[i] for i in part]
        given, steps = padded([stretches[i].ids[:-1] for i in chosen], PAD, device)
        logits = _logits(network, begun, owners[chosen], given, steps).flatten(0, 1)
        lines, places = steps.nonzero(as_tuple=True)
        rows = torch.tensor(chosen, device=device)[lines]
        tokens = wanted[rows, places + 1]
        scores[rows, places + 1] = _entropy_and_loss(logits, lines * given.shape[1] + places, tokens)
    return scores


def _logits(network: Any, begun: _Begun, owners: Tensor, given: Tensor, steps: Tensor) -> Tensor:
    """Of what follows each given token, (rows, tokens, vocabulary)."""
    mask, cache = begun.mask[owners], cache_of(begun.cache, owners)
    if begun.encoded is not None:
        encoded = BaseModelOutput(last_hidden_state=begun.encoded[owners])  # pyright: ignore[reportArgumentType]
        return network(
            encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=given, past_key_values=cache
        ).logits
    seen = torch.cat([mask, steps], 1)
    positions = positions_of(seen)[:, -given.shape[1] :]
    return network(input_ids=given, attention_mask=seen, position_ids=positions, past_key_values=cache).logits


def _entropy_and_loss(logits: Tensor, rows: Tensor, tokens: Tensor) -> Tensor:
    """Of what follows, and of the token that does, (tokens, 2) float32; ``rows`` are those of the logits to look at."""
    scores = torch.empty(len(tokens), 2, device=logits.device)
    size = max(1, CHUNK // logits.shape[1])
    for at in range(0, len(tokens), size):
        here = slice(at, at + size)
        likely = logits[rows[here]].float().log_softmax(-1)
        scores[here, 1] = -likely.gather(1, tokens[here, None])[:, 0]
        likely.clamp_(min=torch.finfo(likely.dtype).min)  # 0 times infinity has no value
        scores[here, 0] = -torch.linalg.vecdot(likely.exp(), likely)
    return scores
