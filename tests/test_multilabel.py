"""A multilabel study: the answer that no label applies is learnt, scored and written down."""

from __future__ import annotations

from toys import Toy, rows, write_jsonl

import understudy
from understudy.workspace import Rows


def test_a_row_to_which_no_label_applies_is_kept_and_one_without_an_answer_is_not(toy: Toy) -> None:
    none, unknown = {"text": "please help me", "topic": []}, {"text": "was it today", "topic": None}
    answered = [{**row, "topic": [row["topic"]]} for row in rows(12, seed=1)]
    write_jsonl(toy.folder / "train.jsonl", [*answered, none, unknown])
    write_jsonl(toy.folder / "test.jsonl", [*rows(12, seed=3), {"text": "it is a", "topic": []}])
    toy.study["task"]["kind"] = "multilabel"
    toy.study.update(arms={"gold": ["gold"]}, seeds=[0])
    toy.save()
    report = understudy.run(toy.path, folder=toy.runs)
    assert report["arms"]["gold"]["training_rows"] == 13
    (train,) = (Rows(folder) for folder in toy.runs.glob("steps/*") if Rows(folder).manifest["name"] == "train")
    assert [row.target for row in train][-1] == ()
    assert [(row.example.target, row.reason) for row in train.dropped()] == [(None, "no_target")]
