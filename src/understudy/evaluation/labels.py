"""What the metrics over labels count: an answer is a set of labels, and the order of the labels leaves no trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

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
