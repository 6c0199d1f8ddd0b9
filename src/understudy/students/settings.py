"""The settings of every kind of student; nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from understudy.settings import Settings


class ClassifierSettings(Settings):
    """An encoder with a linear head, for tasks of the kinds classification and multilabel."""

    kind: Literal["classifier"] = "classifier"
    """Which student."""
    base: str = "all-MiniLM-L6-v2"
    """The encoder to start from: all-MiniLM-L6-v2 (from the installed package), a folder, or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    steps: int | None = Field(default=400, ge=0)
    """How many optimiser steps the whole network is trained for; 0 trains the head only, null leaves it to tokens."""
    tokens: int | None = Field(default=None, ge=0)
    """How many tokens the whole network is trained on; whichever of steps and tokens is reached first ends it."""
    batch_size: int = Field(default=16, ge=1)
    """Rows a step."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the encoder."""
    head_learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the head, once it is trained together with the encoder."""
    weight_decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """The part of the training over which the learning rate rises; then it falls linearly to 0."""
    max_length: int = Field(default=128, ge=4)
    """Tokens a row; what is longer is cut off."""
    held_back: float = Field(default=0.2, gt=0, le=0.5)
    """The part of the rows on which the trained network is compared with the head alone."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the network's training; auto takes bf16 where the processor has it. Weights stay float32."""
    threads: int | None = Field(default=None, ge=1)
    """Processor threads; null leaves them to PyTorch. One thread and fp32 give the same bits on every run."""
    checkpoint_every_s: float = Field(default=60, ge=0)
    """Seconds between two checkpoints."""

    @model_validator(mode="after")
    def _ends(self) -> ClassifierSettings:
        if self.steps is None and self.tokens is None:
            raise ValueError("steps or tokens: one of them must say when the training ends")
        return self
