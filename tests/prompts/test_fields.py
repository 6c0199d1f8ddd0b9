"""The texts that a tuned teacher learns and is asked with, to the character and to the token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ParseError
from understudy.prompts.fields import Form, read_pair
from understudy.records import Example
from understudy.students.causal import open_base, rows_of
from understudy.students.packing import IGNORED
from understudy.students.scratch import END
from understudy.students.settings import CausalSettings
from understudy.task import Task

ROW = Example(id="r", input="my card\nis lost", target="card")
FORWARD = "### Task: topic\n### Input:\nmy card\nis lost\n### Output:\n"
BACKWARD = "### Task: topic\n### Output:\ncard\n### Input:\n"
START = "### Task: topic\n### Input:\n"
SOME_LINES = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def lessons(annotates: bool, starts_at: str | None, row: Example = ROW, is_multilabel: bool = False) -> list[Example]:
    return list(Form("topic", annotates, starts_at, is_multilabel).lessons([row]))


@pytest.mark.parametrize(
    ("annotates", "starts_at", "texts"),
    [
        (True, None, [(FORWARD, "card")]),
        (True, "tag", [(START, "my card\nis lost\n### Output:\ncard")]),
        (False, "tag", [(START, "my card\nis lost\n### Output:\ncard")]),
        (True, "label", [(FORWARD, "card"), (BACKWARD, "my card\nis lost")]),
        (False, "label", [(BACKWARD, "my card\nis lost")]),
    ],
)
def test_what_is_learnt_of_a_row(annotates: bool, starts_at: str | None, texts: list[tuple[str, str]]):
    learnt = lessons(annotates, starts_at)
    assert [(one.input, one.target) for one in learnt] == texts
    assert {one.id for one in learnt} == {"r"}


@pytest.mark.parametrize("loss_on", ["all", "target"])
@pytest.mark.parametrize("starts_at", [None, "tag", "label"])
def test_the_loss_is_on_what_follows_and_on_the_stop_token(starts_at: str | None, loss_on: str):
    scratch = {"hidden_size": 8, "layers": 1, "heads": 2, "vocab_size": 300}
    settings = CausalSettings.model_validate({"base": scratch, "prompt": "bare", "loss_on": loss_on})
    learnt = lessons(True, starts_at)
    network, tokenizer = open_base(settings, [one.input + str(one.target) for one in learnt])
    stop = tokenizer.convert_tokens_to_ids(END)
    assert (network.generation_config or network.config).eos_token_id == tokenizer.eos_token_id == stop
    task = Task(instruction="?", kind="generation")
    rows, cut = rows_of(learnt, task, tokenizer, stop, settings, limit=512)
    assert cut == 0
    for row, one in zip(rows, learnt, strict=True):
        assert tokenizer.decode(row["input_ids"]) == f"{one.input}{one.target}{END}"
        scored = [token for token in row["labels"] if token != IGNORED]
        assert row["labels"][-len(scored) :] == scored  # nothing is left out in between
        assert row["input_ids"][-len(scored) :] == scored
        if loss_on == "all":
            assert len(scored) == len(row["input_ids"]) - 1  # nothing stands before the first
        else:
            assert tokenizer.decode(scored) == f"{one.target}{END}"


def test_several_references_are_a_lesson_each_and_several_labels_are_one():
    row = ROW.replace(target=("a", "b"))
    assert [one.target for one in lessons(True, None, row)] == ["a", "b"]
    assert [one.target for one in lessons(True, None, row, is_multilabel=True)] == ["a, b"]
    (one,) = lessons(True, "tag", row, is_multilabel=True)
    assert one.target == "my card\nis lost\n### Output:\na, b"


@given(tag=SOME_LINES, input=SOME_LINES, output=SOME_LINES)
def test_what_is_asked_for_is_what_was_learnt(tag: str, input: str, output: str):
    row = Example(id="r", input=input, target=output)
    forward, backward = Form(tag, True, "label").lessons([row])
    form = Form(tag, True, "tag")
    (whole,) = form.lessons([row])
    assert (forward.input, backward.input) == (form.to_annotate(input), form.to_generate(output))
    assert whole.input == form.to_generate()
    assert f"{whole.input}{whole.target}" == f"{forward.input}{forward.target}"  # so it learns to annotate too
    if "### Output:\n" not in f"{input}\n{output}\n":
        assert read_pair(str(whole.target)) == (input, output)


@pytest.mark.parametrize("text", ["no mark", "a ### Output:\nb", "a\n### Output:\nb\n### Output:\nc", "a\n### Output:"])
def test_a_broken_form(text: str):
    with pytest.raises(ParseError, match="'### Output:' stands [02] times in") as raised:
        read_pair(text)
    assert raised.value.reason == "not_the_form"
