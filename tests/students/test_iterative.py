"""Texts written in turns: by students that have learnt short texts, by random ones, and by writers of known lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_piece_scores import model_of

from understudy.records import Example, Prediction
from understudy.segment import joined
from understudy.students import iterative, load_model, train
from understudy.students.iterative import Iterated, iterate
from understudy.students.settings import Seq2SeqSettings
from understudy.task import Task

PROMPTS = ["cat", "dog", "a hen that sat", "owl", "an ox", "bee"]


class Writer:
    """Writes the same to every text; keeps count of what it reads."""

    truncated = 0

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        self.read: list[list[str]] = []

    def predict(self, inputs: Iterable[str | Example]) -> Iterator[Prediction]:
        self.read.append([str(one) for one in inputs])
        line = self.lines[min(len(self.read), len(self.lines)) - 1]
        return iter([Prediction(line) for _ in self.read[-1]])


def never(text: str) -> bool:
    return False


def test_two_models_take_turns_until_the_marker() -> None:
    copies, computes = Writer(" Ann has 3."), Writer("3 + 4 = 7. ", "The answer is 7.")
    found = list(iterate([copies, computes], ["How many?\n", "And now?"], is_over=lambda text: "answer is" in text))
    text = "Ann has 3. 3 + 4 = 7. Ann has 3. The answer is 7."
    pieces = ((0, "Ann has 3."), (1, "3 + 4 = 7."), (0, "Ann has 3."), (1, "The answer is 7."))
    assert found == [Iterated(text, pieces, 2, "marker")] * 2
    assert copies.read[1][1] == "And now? Ann has 3. 3 + 4 = 7."
    assert [*iterate([copies], [], is_over=never)] == []


def test_one_model_takes_all_turns_until_the_cap() -> None:
    one = Writer("So.")
    assert [*iterate([one], ["Why?"], is_over=never, rounds=3, turns=1)] == [
        Iterated("So. So. So.", ((0, "So."),) * 3, 3, "cap")
    ]
    (found,) = iterate([one], ["Why?"], is_over=never, rounds=3)
    assert (len(found.pieces), found.rounds, found.stopped) == (6, 3, "cap")


def test_a_text_that_is_over_is_in_no_further_batch() -> None:
    one = Writer("So.")
    found = list(iterate([one], ["a", "b b"], is_over=lambda text: len(one.read) > 2, turns=1))
    assert [row.stopped for row in found] == ["marker", "marker"]
    assert [len(batch) for batch in one.read] == [2, 2, 2]


def test_it_stalls_when_no_model_has_anything_to_write() -> None:
    silent, writes_once = Writer(" \n"), Writer("So.", "")
    (found,) = iterate([silent, writes_once], ["Why?"], is_over=never)
    assert found == Iterated("So.", ((1, "So."),), 2, "stalled")
    assert (len(silent.read), len(writes_once.read)) == (2, 2)
    assert [*iterate([silent], ["Why?"], is_over=never)] == [Iterated("", (), 1, "stalled")]
    (found,) = iterate([silent, Writer("So.")], ["Why?"], is_over=never, rounds=2)
    assert (found.text, found.stopped) == ("So. So.", "cap")


def test_texts_are_taken_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterative, "WINDOW", 4)
    taken = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(len(taken))
            yield f"{len(taken)}?"

    one = Writer("So.")
    several = iterate([one], endless(), is_over=never, rounds=1, turns=1)
    assert [next(several).text for _ in range(5)] == ["So."] * 5
    assert len(taken) == 8
    assert one.read[1] == ["5?", "6?", "7?", "8?"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "llama"])
def test_all_at_once_is_as_one_at_a_time(family: str, tmp_path: Path) -> None:
    models: list[Any] = [model_of(family, tmp_path / str(i), max_new_tokens=6) for i in range(2)]
    for model in models[1:]:  # each with weights of its own
        for weights in model.network.parameters():
            weights.data.neg_()
    for taking in (models, models[1:]):
        one, *_ = iterate(taking, PROMPTS, is_over=never)  # some text that is written on the way is the marker
        is_over = lambda text: text.endswith(one.pieces[2][1])  # noqa: B023, E731
        found = list(iterate(taking, PROMPTS, is_over=is_over))
        assert found == [one for prompt in PROMPTS for one in iterate(taking, [prompt], is_over=is_over)]
        assert len({row.text for row in found}) > 1
        assert found[0].stopped == "marker"


@pytest.mark.slow
def test_students_write_what_they_learnt(tmp_path: Path) -> None:
    task = Task(instruction="Go on.", kind="generation")
    scratch = {"hidden_size": 32, "layers": 2, "heads": 2, "vocab_size": 300}
    plain = Seq2SeqSettings.model_validate({"base": scratch, "precision": "fp32", "threads": 1, "batch_size": 4,
                                            "learning_rate": 5e-3, "steps": 120, "prompt": "bare"})  # fmt: skip
    told = {"cat": ["It purrs.", "Done."], "dog": ["It barks.", "Over."]}
    for part in range(2):
        rows = [
            Example(id=name, input=joined(name, texts[0] if part else ""), target=texts[part])
            for name, texts in told.items()
        ]
        train(plain, task, rows, tmp_path / str(part) / "model")
    models = [load_model(tmp_path / str(part) / "model") for part in range(2)]
    found = list(iterate(models, told, is_over=lambda text: "Done" in text or "Over" in text))
    assert [row.text for row in found] == [" ".join(texts) for texts in told.values()]
    assert [(row.rounds, row.stopped) for row in found] == [(1, "marker")] * 2
