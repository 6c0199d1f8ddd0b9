"""Training the whole network: a bare loop whose n-th step is a function of the seed and the rows alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from understudy.students.batches import padded, shuffled
from understudy.students.network import UnderstudyClassifier
from understudy.students.settings import ClassifierSettings

Facts = dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """How far one training of the network has come."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file that holds a training between two steps; safetensors, replaced in one move."""

    folder: Path
    fingerprint: str  # of settings, seed and rows: another training's checkpoint is not taken up

    @property
    def path(self) -> Path:
        return self.folder / "state.safetensors"

    def write(self, tensors: dict[str, Tensor], facts: Facts) -> None:
        """Replace what was written before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        save_file(tensors, partial, metadata={**facts, "fingerprint": self.fingerprint})
        os.replace(partial, self.path)

    def read(self) -> tuple[dict[str, Tensor], Facts]:
        """What was written last for this very training; empty where there is nothing."""
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("fingerprint") != self.fingerprint:
                    return {}, {}
                return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118
        except (FileNotFoundError, SafetensorError):
            return {}, {}


def tune(
    network: UnderstudyClassifier,
    rows: Sequence[Sequence[int]],
    targets: Tensor,
    settings: ClassifierSettings,
    *,
    seed: int,
    pad: int,
    checkpoint: Checkpoint,
    facts: Facts,
    report: Callable[[Run], None],
) -> Run:
    """Train ``network`` in place, from the checkpoint if it belongs to the same ``facts``.

    Args:
        rows: token ids of each row.
        targets: label numbers, (rows,), or 0/1 of every label, (rows, labels), float32.
        facts: what the checkpoint must say besides, e.g. the stage of a longer training.
        report: called after each step.
    """
    device = network.device
    optimiser = _optimiser(network, settings)
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    run = _resume(optimiser, trained, checkpoint, facts)
    batches = shuffled([len(row) for row in rows], settings.batch_size, seed)
    for _ in range(run.steps):
        next(batches)
    started, written = time.monotonic() - run.seconds, time.monotonic()
    network.train()
    while not _over(run, settings):
        batch = next(batches)
        ids, mask = padded([rows[i] for i in batch], pad, device)
        tokens = int(mask.sum())
        _set_rates(optimiser, _progress(run, tokens, settings), settings.warmup)
        torch.manual_seed((seed << 32) + run.steps)  # dropout: the same after a resume
        with autocast(device, settings.precision):
            embedded = network.embed(ids, mask)
        loss = network.loss(network.head(embedded), targets[batch].to(device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        run = Run(run.steps + 1, run.tokens + tokens, time.monotonic() - started)
        report(run)
        if time.monotonic() - written >= settings.checkpoint_every_s and not _over(run, settings):
            checkpoint.write(_state(optimiser, trained), facts | _facts(run))
            written = time.monotonic()
    network.eval()
    return run


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 arithmetic as ``in_bf16`` says."""
    return torch.autocast(device.type, torch.bfloat16, enabled=in_bf16(device, precision))


def in_bf16(device: torch.device, precision: str) -> bool:
    """Whether bf16 is asked for, or ``auto`` finds a processor that has it."""
    return precision == "bf16" or (precision == "auto" and _bf16(device))


def _bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # since PyTorch 2.8
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def _optimiser(network: UnderstudyClassifier, settings: ClassifierSettings) -> torch.optim.AdamW:
    network.requires_grad_(True)
    network.encoder.get_input_embeddings().requires_grad_(False)
    for name, parameter in network.encoder.named_parameters():
        if name.startswith("pooler."):  # some encoders have one; it is not on the way to the logits
            parameter.requires_grad_(False)
    encoder = [p for p in network.encoder.parameters() if p.requires_grad]
    groups = [
        {"params": encoder, "peak": settings.learning_rate},
        {"params": list(network.head.parameters()), "peak": settings.head_learning_rate},
    ]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=settings.weight_decay, fused=True)


def _over(run: Run, settings: ClassifierSettings) -> bool:
    return (settings.steps is not None and run.steps >= settings.steps) or (
        settings.tokens is not None and run.tokens >= settings.tokens
    )


def _progress(run: Run, tokens: int, settings: ClassifierSettings) -> float:
    """Where the middle of the next step stands between 0 and 1."""
    by_steps = (run.steps + 0.5) / settings.steps if settings.steps else 0.0
    by_tokens = (run.tokens + tokens / 2) / settings.tokens if settings.tokens else 0.0
    return min(1.0, max(by_steps, by_tokens))


def _set_rates(optimiser: torch.optim.AdamW, progress: float, warmup: float) -> None:
    factor = min(progress / warmup if warmup else 1.0, (1 - progress) / (1 - warmup))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * factor


def _state(optimiser: torch.optim.AdamW, trained: dict[str, torch.nn.Parameter]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        tensors[f"weight/{name}"] = parameter.detach().contiguous()
        for part, value in optimiser.state[parameter].items():
            tensors[f"{part}/{name}"] = value.contiguous()
    return tensors


def _facts(run: Run) -> Facts:
    return {"steps": str(run.steps), "tokens": str(run.tokens), "seconds": str(run.seconds)}


def _resume(
    optimiser: torch.optim.AdamW, trained: dict[str, torch.nn.Parameter], checkpoint: Checkpoint, facts: Facts
) -> Run:
    tensors, found = checkpoint.read()
    if not tensors or any(found.get(key) != value for key, value in facts.items()):
        return Run()
    with torch.no_grad():
        for key, value in tensors.items():
            part, name = key.split("/", 1)
            if part == "weight":
                trained[name].copy_(value)
            else:
                optimiser.state[trained[name]][part] = value.to(trained[name].device)
    return Run(int(found["steps"]), int(found["tokens"]), float(found["seconds"]))
