"""An encoder without a model: words hashed into vectors, so that texts with the same words lie near."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np


@dataclass
class HashingEncoder:
    """Each word adds a sign at one of ``width`` places."""

    name: str = "hashing"
    width: int = 16
    asked: list[int] = field(default_factory=list)
    """How many texts it was given, a call."""

    @property
    def identity(self) -> str:
        return f"{self.name}-{self.width}"

    def encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        self.asked.append(len(texts))
        vectors = np.zeros((len(texts), self.width), np.float32)
        for number, text in enumerate(texts):
            for word in text.lower().split() or [""]:
                place = int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "little")
                vectors[number, place % self.width] += 1 if place & 65_536 else -1
            if not vectors[number].any():
                vectors[number, 0] = 1
            if progress:
                progress(number + 1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
