"""What the metrics over labels count: an answer is a set of labels, and the order of the labels leaves no trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from understudy.errors import DataError
from understudy.records import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float64]

Answer: TypeAlias = tuple[str, ...]
Pair: TypeAlias = tuple[Answer, Answer]  # gold, predicted


def label_set(target: Target) -> Answer:
    """One label for classification and choice, any number for multilabel, none for ``None``."""
    if isinstance(target, tuple):
        return tuple(sorted(set(target)))
    return () if target is None else (target,)


def exact(pairs: Sequence[Pair]) -> NDArray[Any]:
    """[pairs, 2]: whether the sets are the same, and 1."""
    import numpy as np

    return np.array([(gold == predicted, True) for gold, predicted in pairs])


def decisions(pairs: Sequence[Pair]) -> NDArray[Any]:
    """[pairs, 2 x labels]: for each label whether it is in both sets, then in how many of the two it is."""
    import numpy as np

    answers = sorted({answer for pair in pairs for answer in pair})
    labels = sorted({label for answer in answers for label in answer})
    code = {answer: i for i, answer in enumerate(answers)}
    sets = np.array([[label in answer for label in labels] for answer in answers], dtype=np.uint8)
    sets = sets.reshape(len(answers), len(labels))
    gold, predicted = (sets[[code[pair[side]] for pair in pairs]] for side in (0, 1))
    return np.concatenate([gold & predicted, gold + predicted], axis=1)


def decisions_on_one(pairs: Sequence[Pair]) -> NDArray[Any]:
    """[pairs, 2]: whether the label 1 is in both sets, and in how many of the two it is.

    Raises:
        DataError: no row has the label 1.
    """
    import numpy as np

    if not any("1" in gold for gold, _ in pairs):
        raise DataError("metric 'f1' is that of the label 1, which no test row has; call the labels 0 and 1 in labels")
    sides = np.array([["1" in answer for answer in pair] for pair in pairs])
    return np.stack([sides.all(1), sides.sum(1)], axis=1)


def confusions(pairs: Sequence[Pair]) -> NDArray[Any]:
    """[pairs, 1 + 2 x answers]: whether the sets are the same, then which one the gold and the predicted set is."""
    import numpy as np

    answers = sorted({answer for pair in pairs for answer in pair})
    code = {answer: i for i, answer in enumerate(answers)}
    each = np.eye(len(answers), dtype=np.uint8)
    gold, predicted = (each[[code[pair[side]] for pair in pairs]] for side in (0, 1))
    return np.concatenate([(gold & predicted).sum(1, keepdims=True), gold, predicted], axis=1)


def mcc(sums: Floats) -> Floats:
    gold, predicted = _halves(sums[:, 1:])
    rows = gold.sum(1)
    spread = [rows**2 - (side**2).sum(1) for side in (gold, predicted)]
    return _ratio(sums[:, 0] * rows - (gold * predicted).sum(1), (spread[0] * spread[1]) ** 0.5)


def macro_f1(sums: Floats) -> Floats:
    hits, sizes = _halves(sums)
    return _ratio(_ratio(2 * hits, sizes).sum(1), (sizes > 0).sum(1))


def micro_f1(sums: Floats) -> Floats:
    hits, sizes = _halves(sums)
    return _ratio(2 * hits.sum(1), sizes.sum(1))


def _halves(sums: Floats) -> tuple[Floats, Floats]:
    labels = sums.shape[1] // 2
    return sums[:, :labels], sums[:, labels:]


def _ratio(above: Floats, below: NDArray[Any]) -> Floats:
    import numpy as np

    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)


def constant_labels(gold: Sequence[Target]) -> list[Target]:
    """Answers of which one is best where all rows get the same: the most frequent, and the m most frequent labels."""
    sets = [answer for answer in gold if isinstance(answer, tuple)]
    frequent = tuple(label for label, _ in Counter(label for labels in sets for label in set(labels)).most_common())
    return [Counter(map(label_set, gold)).most_common(1)[0][0], *(frequent[:m] for m in range(1, len(frequent) + 1))]
