"""CoThought over a real endpoint: what is grouped, asked, scored, kept and written, and in which order."""

from __future__ import annotations

import gzip
import json
import os
import re
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from servers import ChatServer
from toys import write_jsonl

from understudy import Dropped, Example, Given, Ledger, Task, Teacher, open_teacher
from understudy.errors import SettingsError
from understudy.lessons import Classroom, Lessons
from understudy.progress import Silent
from understudy.reading import load_test
from understudy.recipes import open_recipe, recipe_settings
from understudy.records import Row
from understudy.rehearsal import rehearsed, tell_estimate, totals
from understudy.study_file import load_study
from understudy.task import Fields
from understudy.teachers import RepliesMissing
from understudy.workspace import Workspace

TASK = Task(instruction="Learn.", kind="pretraining", fields=Fields(input="text", target=None))
PLACES = ["garden", "kitchen", "harbour", "forest", "market"]
ANIMALS = ["fox", "crow", "goat", "hare"]
TEXTS = [" ".join(f"The {animal} walked into the {place}." for place in PLACES) for animal in ANIMALS]
DOCUMENTS = [Example(id=f"d{i}", input=text) for i, text in enumerate(TEXTS)]
REPLY = """Plan:
I will tell it in order.

Paragraph:
Once there was a {animal}.
It walked.

Task:
{task}

Labels:
calm"""


@pytest.fixture
def teacher(server: ChatServer) -> Iterator[Teacher]:
    server.answer = answers("8")
    with Ledger.open() as ledger, open_teacher({"model": "tiny", "base_url": server.base_url}, ledger) as opened:
        yield opened


def is_judging(messages: list[dict[str, str]]) -> bool:
    return "How coherent is it?" in messages[-1]["content"]


def answers(*scores: str, tasks: tuple[str, ...] = ("Sentiment analysis",)) -> Any:
    """A teacher that writes of the first animal it is shown, and gives the scores in turn."""
    given, named = cycle(scores), cycle(tasks)

    def answer(messages: list[dict[str, str]]) -> str:
        if is_judging(messages):
            return f"It reads well.\n\nSo the coherency score is {next(given)}."
        animal = re.findall("|".join(ANIMALS), messages[-1]["content"])
        return REPLY.format(animal=animal[0] if animal else "bird", task=next(named))

    return answer


def made(
    teacher: Teacher,
    documents: list[Example] = DOCUMENTS,
    folder: Path | None = None,
    leaks: Any = None,
    **settings: Any,
) -> list[Row]:
    recipe = open_recipe("cothought")
    given = Given(TASK, teacher, documents, [], leaks=leaks or (lambda text: False))
    given = replace(given, folder=folder) if folder else given
    rows = list(recipe.make(documents, given, recipe_settings("cothought", settings, "chain")))
    ids = [(row.example if isinstance(row, Dropped) else row).id for row in rows]
    assert len(ids) == len({*ids})
    return rows


def kept(rows: list[Row]) -> list[Example]:
    return [row for row in rows if isinstance(row, Example)]


def reasons(rows: list[Row]) -> Counter[str]:
    return Counter(row.reason for row in rows if isinstance(row, Dropped))


def prompts(server: ChatServer, judging: bool) -> list[str]:
    return [one["messages"][-1]["content"] for one in server.bodies if is_judging(one["messages"]) == judging]


def test_two_samples_of_each_group_are_scored_five_times_and_kept_with_all_that_led_to_them(
    teacher: Teacher, server: ChatServer
):
    server.answer = answers("6", "7", "8", "9", "10")
    rows = made(teacher)
    assert all(isinstance(row, Example) for row in rows)
    assert len(rows) == 8  # 20 sentences by fives, two of each
    assert Counter(parent for row in kept(rows) for parent in row.parents).keys() == {"d0", "d1", "d2", "d3"}
    assert any(len(row.parents) > 1 for row in kept(rows))
    for row in kept(rows):
        said = [one["text"] for one in row.fields["sentences"]]
        animal = next(name for name in re.findall("|".join(ANIMALS), " ".join(said)))
        assert row.input.splitlines() == [
            "Plan: I will tell it in order.",
            f"Paragraph: Once there was a {animal}. It walked.",
            "Task: Sentiment analysis",
            "Labels: calm",
        ]
        assert row.notes["paragraph"] == f"Once there was a {animal}.\nIt walked."
        assert (sorted(row.fields["scores"]), row.fields["score"]) == ([6, 7, 8, 9, 10], 8.0)
        assert len(said) == 5
        assert {one["row"] for one in row.fields["sentences"]} == {*row.parents}
        assert len(row.replies) == len({*row.replies}) == 6
        assert row.target is None
    every = sorted(one["text"] for row in kept(rows)[::2] for one in row.fields["sentences"])
    assert every == sorted(sentence.strip() + "." for text in TEXTS for sentence in text.split(".") if sentence)


def test_the_judge_reads_the_text_without_its_plan(teacher: Teacher, server: ChatServer):
    (row,) = kept(made(teacher, groups=1, samples=1))
    (shown,) = {*prompts(server, judging=True)}
    assert "\n".join(row.input.splitlines()[1:]) in shown
    assert "I will tell it in order" not in shown
    (sent,) = prompts(server, judging=False)
    assert " ".join(one["text"] for one in row.fields["sentences"]) in sent
    headings = [line for line in sent.splitlines() if line.endswith(":") and " " not in line]
    assert headings == ["Plan:", "Paragraph:", "Task:", "Labels:"]


def test_a_low_mean_and_replies_without_a_score_are_counted_with_reasons(teacher: Teacher, server: ChatServer):
    server.answer = answers("11", "7", "6", "nine", "8.5")
    rows = made(teacher, groups=1, samples=1)
    out = [row for row in rows if isinstance(row, Dropped) and row.step != "not_drawn"]
    counted = reasons(rows)
    assert counted.pop("not_drawn", 0) == 4 - len({*out[0].example.parents})
    assert counted == {"low_score": 1, "no_closing": 1, "score_out_of_range": 2}
    low = next(row for row in out if row.reason == "low_score")
    assert sorted(low.example.fields["scores"], key=str) == [6, 7, None, None, None]
    assert (low.example.fields["score"], len(low.example.replies)) == (6.5, 6)
    unread = [row.example for row in out if row.reason in ("no_closing", "score_out_of_range")]
    assert all(row.parents == (low.example.id,) and len(row.replies) == 1 for row in unread)


def test_a_text_that_no_reply_scores_is_dropped(teacher: Teacher, server: ChatServer):
    server.answer = answers("0", "-8", "10000000000", "8.5", "two")
    rows = made(teacher, groups=1, samples=1, raw=True)
    assert kept(rows) == DOCUMENTS
    assert reasons(rows) == {"no_score": 1, "no_closing": 1, "score_out_of_range": 4}


def test_scores_come_from_a_closing_sentence(teacher: Teacher, server: ChatServer):
    server.answer = lambda messages: (
        "A score is 3 at first sight.\nSo the coherency score is: 9/10"
        if is_judging(messages)
        else REPLY.format(animal="fox", task="T")
    )
    assert {row.fields["score"] for row in kept(made(teacher))} == {9.0}


def test_without_scores_everything_is_kept_and_nobody_is_asked_again(teacher: Teacher, server: ChatServer):
    assert len(kept(made(teacher, scores=0))) == 8
    assert prompts(server, judging=True) == []
    with pytest.raises(SettingsError, match="keep: best goes by the scores"):
        recipe_settings("cothought", {"scores": 0, "keep": "best"}, "chain")


def test_the_best_of_a_group_is_kept(teacher: Teacher, server: ChatServer):
    server.answer = answers("9", "7", tasks=("A", "B"))  # a request has one score, as samples differ
    rows = made(teacher, scores=1, keep="best")
    by_group = Counter(row.id.partition("+")[0] for row in kept(rows))
    assert (len(by_group), {*by_group.values()}) == (4, {1})
    assert reasons(rows) == {"not_best": 4}
    assert {row.fields["score"] for row in kept(rows)} == {9}


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I would rather not.", "no_blocks"),
        ("Paragraph:\nA text.\nTask: QA\nLabels: yes", "no_plan"),
        ("Plan: tell\nTask: QA\nLabels: yes", "no_paragraph"),
        ("Plan: tell\nParagraph: A text.\nTask:\n\nLabels: yes", "no_task"),
        ("Plan: tell\nParagraph: A text.\nTask: **-**\nLabels: yes", "no_task"),
        ("Plan: tell\nParagraph: A text.\nTask: QA\nLabels:", "no_labels"),
        ("", "empty_reply"),
    ],
)
def test_a_reply_that_lacks_a_block_is_dropped_for_it(teacher: Teacher, server: ChatServer, reply: str, reason: str):
    server.answer = reply
    rows = made(teacher, raw=True)
    assert kept(rows) == DOCUMENTS
    assert reasons(rows) == {reason: 8}
    dropped = [row.example for row in rows if isinstance(row, Dropped)]
    assert {parent for row in dropped for parent in row.parents} == {"d0", "d1", "d2", "d3"}
    assert prompts(server, judging=True) == []


def test_headings_may_be_marked_and_names_of_tasks_are_compared_without_case_and_signs(
    teacher: Teacher, server: ChatServer
):
    names = cycle(
        ["**Question-Answering**", '"question answering."', "Task: Question answering\nbecause it fits", "NER"]
    )
    server.answer = lambda messages: (
        f"**Plan:** tell\n\n### Paragraph\n\nA text.\n\n**Task**:\n{next(names)}\n\n4. Labels:\n- one\n- two"
    )
    rows = kept(made(teacher, scores=0))
    told = [row.notes["task"] for row in rows]
    assert Counter(told[:6]) == {"Question-Answering": 2, "question answering": 2, "Question answering": 2}
    assert told[6:] == ["NER", "NER"]
    assert rows[0].input.endswith("\nLabels: - one - two")


def test_texts_are_written_by_task_the_most_frequent_first_or_as_their_groups_were_drawn(
    teacher: Teacher, server: ChatServer, tmp_path: Path
):
    server.answer = answers("8", tasks=("b", "C", "a", "c"))
    rows = made(teacher, folder=tmp_path / "scratch", groups=3)
    told = [row.notes["task"] for row in kept(rows)]
    assert sorted(told) == sorted(["b", "C", "a", "c", "b", "C"])
    assert [name.lower() for name in told] == ["c", "c", "c", "b", "b", "a"]
    assert [*(tmp_path / "scratch").iterdir()] == []
    as_drawn = kept(made(teacher, groups=3, order="input"))
    ids = [row.id for row in as_drawn]
    assert {row.id for row in kept(rows)} == {*ids}
    assert [id.partition("+")[0] for id in ids[::2]] == [id.partition("+")[0] for id in ids[1::2]]


def test_the_plan_may_stay_out_of_the_text(teacher: Teacher):
    for row in kept(made(teacher, plan=False)):
        assert [line.partition(":")[0] for line in row.input.splitlines()] == ["Paragraph", "Task", "Labels"]
        assert row.notes["plan"] == "I will tell it in order."


def test_documents_may_be_passed_on_and_those_that_were_not_drawn_are_dropped_otherwise(teacher: Teacher):
    rows = made(teacher, raw=True, groups=1)
    assert kept(rows)[:4] == DOCUMENTS
    assert (len(kept(rows)), reasons(rows)) == (6, {})
    rows = made(teacher, groups=1)
    drawn = {parent for row in kept(rows) for parent in row.parents}
    left = [row.example for row in rows if isinstance(row, Dropped) and row.reason == "not_drawn"]
    assert {row.id for row in left} == {row.id for row in DOCUMENTS} - drawn
    assert all(row in DOCUMENTS for row in left)


def test_a_corpus_of_one_sentence_a_megabyte_line_and_empty_documents(teacher: Teacher, server: ChatServer):
    one = Example(id="one", input="The fox slept.")
    (text, _) = kept(made(teacher, [one]))
    assert [sentence["text"] for sentence in text.fields["sentences"]] == ["The fox slept."]
    odd = [
        one,
        Example(id="long", input="fox " * 300_000),
        Example(id="empty", input=" \n"),
        Example(id="no", input="Ha."),
    ]
    for groups in (None, 1):
        rows = made(teacher, odd, groups=groups)
        assert [row.parents for row in kept(rows)] == [("one",)] * 2
        counted = reasons(rows)
        assert counted.pop("not_drawn", 0) == (2 if groups else 0)  # of which a sentence was dropped
        assert sum(counted.values()) == 3
        assert counted["empty_document"] == counted["short_sentence"] == 1
    rows = made(teacher, odd, raw=True)
    assert [row.id for row in kept(rows)][:4] == ["one", "long", "empty", "no"]
    assert "empty_document" not in reasons(rows)
    assert max(map(len, prompts(server, judging=False))) < 2_000


def test_a_group_whose_samples_are_all_refused_is_dropped_and_the_others_are_kept(teacher: Teacher, server: ChatServer):
    server.refuse = {"The crow walked into the market": 400}
    rows = made(teacher)
    assert (len(kept(rows)), reasons(rows)) == (6, {"bad_request": 2})
    refused = [row.example for row in rows if isinstance(row, Dropped)]
    assert all({*row.parents} <= {"d0", "d1", "d2", "d3"} for row in refused)


def test_sentences_near_the_test_split_reach_no_prompt_and_texts_near_it_no_student(
    teacher: Teacher, server: ChatServer
):
    rows = made(teacher, leaks=lambda text: text == "The hare walked into the forest.")
    assert reasons(rows) == {"near_test_split": 1}
    assert len(kept(rows)) == 6
    assert not any("The hare walked into the forest." in prompt for prompt in prompts(server, judging=False))
    rows = made(teacher, leaks=lambda text: "Once there was a" in text)
    assert reasons(rows) == {"near_test_split": 8}


class Corpus:
    """Documents of 3 KB that are made as they are read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Example]:
        for number in range(self.count):
            yield Example(id=f"d{number}", input=f"A fox {number}{' ran' * 750}.")


@pytest.mark.slow
@pytest.mark.parametrize(("reason", "settings"), [("not_drawn", {"groups": 1}), ("near_test_split", {})])
def test_dropped_rows_do_not_stay_in_memory(teacher: Teacher, tmp_path: Path, reason: str, settings: dict[str, Any]):
    def most_bytes(count: int) -> int:
        corpus = Corpus(count)
        given = Given(
            TASK, teacher, corpus, [], folder=tmp_path, leaks=lambda text: bool(re.match(r"A fox \d\d", text))
        )
        rows = open_recipe("cothought").make(corpus, given, recipe_settings("cothought", own, "chain"))
        tracemalloc.start()
        counted = Counter(row.reason if isinstance(row, Dropped) else "" for row in rows)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert counted[reason] >= count - 10
        assert counted[""] > 0
        return most

    own = {"group": None, "samples": 1, "scores": 1, "order": "input", **settings}
    most_bytes(20)  # what is loaded once
    assert most_bytes(2_000) < most_bytes(200) + 1_000_000  # the documents are 6 MB and 0.6 MB


def test_rows_may_be_groups_already(teacher: Teacher, server: ChatServer):
    groups = [
        Example(id=f"g{i}", input=text, fields={"sentences": [f"{part}." for part in text.split(".") if part]})
        for i, text in enumerate(TEXTS)
    ]
    rows = made(teacher, groups, group=None, groups=3, order="input")
    assert [row.parents for row in kept(rows)] == [(id,) for id in ("g0", "g0", "g1", "g1", "g2", "g2")]
    assert [row.example for row in rows if isinstance(row, Dropped)] == [groups[3]]
    assert all(any(text in prompt for text in TEXTS) for prompt in prompts(server, judging=False))
    odd = [Example(id="odd", input="It rained. It stopped.", fields={"sentences": [{"s": "It rained."}]})]
    assert len(kept(made(teacher, odd, group=None))) == 2
    rows = made(teacher, groups, group=None, leaks=lambda text: text.strip() == "The goat walked into the forest.")
    assert [row.example.parents for row in rows if isinstance(row, Dropped)] == [("g2",)]


def study(folder: Path, server: ChatServer, **arms: Any) -> Path:
    """A study file over documents on disk. Nobody is trained here."""
    write_jsonl(folder / "train.jsonl", [{"text": text} for text in TEXTS])
    pair = {
        "text": "A cat sits there now.",
        "sentence_good": "A cat sits there now.",
        "sentence_bad": "A cat sit there.",
    }
    write_jsonl(folder / "test.jsonl", [pair])
    values = {
        "name": "texts",
        "task": {
            "instruction": "Learn.",
            "kind": "pretraining",
            "fields": {"input": "text", "target": None},
            "train": "train.jsonl",
            "test": "test.jsonl",
        },
        "teacher": {"model": "tiny", "base_url": server.base_url, "concurrency": 4, "sampling": {"max_tokens": 100}},
        "student": {"kind": "classifier"},
        "arms": arms or {"cothought": ["cothought"]},
    }
    path = folder / "study.yaml"
    path.write_text(json.dumps(values))
    return path


def taught(path: Path, folder: Path, **options: Any) -> list[Lessons]:
    """What the arms' students would learn from."""
    checked, _ = load_study(path)
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(folder))
        ledger = stack.enter_context(Ledger.open())
        test = load_test(workspace, checked.task)
        classroom = Classroom(workspace, checked, test, ledger, Silent(), **options)
        return stack.enter_context(classroom).lessons(checked.plans())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("steps/*/*.parquet")}


def test_rows_are_conserved_and_a_second_run_asks_nothing_and_gives_the_same_files(tmp_path: Path, server: ChatServer):
    server.answer = answers("6", "7", "8", "9", "5")
    arms = {"raw": ["raw"], "texts": ["cothought"], "both": [{"cothought": {"raw": True, "keep": "best", "groups": 2}}]}
    path = study(tmp_path, server, **arms)
    raw, texts, both = taught(path, tmp_path / "run")
    assert [row.input for row in raw.rows] == TEXTS
    assert (texts.rows.taken.rows_in, texts.rows.taken.joined, texts.rows.taken.kept) == (4, 4, 8)
    assert (both.rows.taken.rows_in, both.rows.taken.made, both.rows.taken.joined) == (4, 4, 0)
    assert both.rows.taken.dropped == {"not_best": 2}
    for one in (raw, texts, both):
        taken = one.rows.taken
        assert taken.rows_in + taken.made == taken.kept + taken.joined + sum(taken.dropped.values())
    assert not [*(tmp_path / "run" / "steps").glob("*.partial")]
    asked = server.requests
    with Workspace(tmp_path / "run") as workspace:
        (killed := workspace.scratch("key")).mkdir()
    taught(path, tmp_path / "run")
    assert not killed.exists()
    taught(path, tmp_path / "again")
    assert server.requests == asked
    assert files(tmp_path / "again") == files(tmp_path / "run")
    assert all(len(row.replies) == 6 for row in texts.rows)


def test_a_document_with_a_test_sentence_reaches_the_student_of_no_arm(tmp_path: Path, server: ChatServer):
    server.answer = answers("8")
    path = study(tmp_path, server, raw=["raw"], texts=["cothought"], both=[{"cothought": {"raw": True}}])
    near = "Long ago it was so. A cat sits there now. Nobody knew why."
    write_jsonl(tmp_path / "train.jsonl", [{"text": text} for text in (near, *TEXTS)])
    raw, texts, both = taught(path, tmp_path / "run")
    assert raw.steps[0].taken.dropped == {"near_test_split": 1}
    assert [row.input for row in raw.rows] == TEXTS
    assert not any("Long ago it was so" in prompt for prompt in prompts(server, judging=False))
    assert {parent for row in texts.rows for parent in row.parents} == {row.id for row in raw.rows}
    assert [row.input for row in both.rows][:4] == TEXTS


def test_another_teacher_may_judge(tmp_path: Path, server: ChatServer):
    server.answer = answers("8")
    with ChatServer(answer=answers("9"), prompt_tokens=100) as cheaper:
        judge = {"model": "small", "base_url": cheaper.base_url, "sampling": {"temperature": 0.7}}
        path = study(tmp_path, server, own=[{"cothought": {}, "judge": judge}], one=["cothought"])
        own, one = taught(path, tmp_path / "run")
        assert [teacher.model for teacher in own.arm.teachers] == ["tiny", "small"]
        assert own.rows.key != one.rows.key
        assert {row.fields["score"] for row in own.rows} == {9}
        assert all(is_judging(body["messages"]) for body in cheaper.bodies)
        assert {body["temperature"] for body in cheaper.bodies} == {0.7}
        assert not any("temperature" in body for body in server.bodies)
        used = own.rows.manifest["teacher"]
        assert used["requests"] + used["from_ledger"] == 4 * 2 * (1 + 5)
        assert used["prompt_tokens"] > one.rows.manifest["teacher"]["prompt_tokens"]
        assert {row.fields["score"] for row in one.rows} == {8}


def test_an_offline_run_says_which_replies_of_both_teachers_it_lacks(tmp_path: Path, server: ChatServer):
    server.answer = answers("8")
    path = study(tmp_path, server, own=[{"cothought": {}, "judge": {"model": "small"}}])
    with pytest.raises(RepliesMissing, match="8 of the 8 replies that cothought needs"):
        taught(path, tmp_path / "offline", offline=True)
    server.answer = lambda messages: "No idea." if is_judging(messages) else REPLY.format(animal="fox", task="QA")
    taught(path, tmp_path / "first")
    (done,) = taught(path, tmp_path / "again", offline=True)
    assert done.rows.taken.dropped == {"no_score": 8, "no_closing": 40}
    path = study(tmp_path, server, own=[{"cothought": {}, "judge": {"model": "other"}}])
    with pytest.raises(RepliesMissing, match="5 of the 13 replies that cothought needs"):
        taught(path, tmp_path / "other", offline=True)


def test_an_estimate_counts_the_scores_five_sixths_of_all_replies_and_asks_nobody(tmp_path: Path, server: ChatServer):
    path = study(tmp_path, server, own=[{"cothought": {"groups": 3}, "judge": {"model": "small"}}])
    steps = rehearsed(taught(path, tmp_path / "run", rehearse=2), 2)
    assert [(step.role, step.requests, step.completion_tokens) for step in steps] == [
        ("teacher", 6, 600),
        ("judge", 30, 3000),
    ]
    assert server.requests == 0
    assert "Make one worked example" in steps[0].prompts[0][0]["content"]
    assert "How coherent is it?" in steps[1].prompts[0][0]["content"]
    told = tell_estimate(totals(steps))
    assert "own: cothought: 6 requests" in told
    assert "own: cothought, the judge: 30 requests" in told
    assert "of 6 replies 5 are scores" in told
    server.answer = answers("8")
    taught(path, tmp_path / "run")
    steps = rehearsed(taught(path, tmp_path / "again", rehearse=2), 2)
    assert [(step.requests, step.in_ledger) for step in steps] == [(6, 6), (30, 0)]
    assert "all scores count as still to be asked for" in steps[1].unforeseen


def test_an_estimate_counts_the_scores_of_every_judge(tmp_path: Path, server: ChatServer):
    arms = {name: [{"cothought": {}, "judge": {"model": name}}] for name in ("small", "other")}
    path = study(tmp_path, server, **arms, again=arms["other"])
    steps = rehearsed(taught(path, tmp_path / "run", rehearse=0), 0)
    assert [(step.role, step.arms, step.requests) for step in steps] == [
        ("teacher", ("small", "other", "again"), 8),
        ("judge", ("small",), 40),
        ("judge", ("other", "again"), 40),
    ]


def test_a_judge_has_the_settings_of_who_writes_but_those_it_names_and_its_files_are_relative_to_the_study(
    tmp_path: Path, server: ChatServer
):
    own = {"replies": {"path": "scores.jsonl", "match": {"id": "id"}}}
    writes = {
        "backend": "recorded",
        "model": None,
        "base_url": None,
        "replies": {"path": "t.jsonl", "match": {"id": "id"}},
    }
    checked, _ = load_study(study(tmp_path, server, arm=[{"cothought": {}, "teacher": writes, "judge": own}]))
    (link,) = checked.plans()[0].chain
    assert link.judge is not None
    assert (link.judge.backend, link.judge.concurrency) == ("recorded", 4)
    assert link.judge.replies[0].path == str(tmp_path / "scores.jsonl")


WRONG = [
    ("gold", "recipe 'gold' is about answers, and the texts of kind: pretraining have none; take raw or cothought"),
    ("answers", "recipe 'answers' is about answers"),
    ("teacherlm", "recipe 'teacherlm' is about answers"),
    ({"raw": {}, "judge": {"model": "m"}}, "recipe 'raw' has nothing judged with these settings; take its judge: out"),
    ({"cothought": {"scores": 0}, "judge": {"model": "m"}}, "recipe 'cothought' has nothing judged"),
    ({"cothought": {}, "judge": {"modle": "m"}}, r"chain.judge.modle: unknown key. Did you mean 'model'"),
]


@pytest.mark.parametrize(("link", "said"), WRONG)
def test_a_chain_that_cannot_work_is_refused_before_anyone_is_asked(
    tmp_path: Path, server: ChatServer, link: Any, said: str
):
    with pytest.raises(SettingsError, match=said):
        load_study(study(tmp_path, server, arm=[link]))


def test_texts_are_for_pretraining_only_and_need_a_corpus(tmp_path: Path, server: ChatServer):
    values = json.loads(study(tmp_path, server).read_text())
    values["task"] |= {"kind": "generation", "fields": {"input": "text", "target": "text"}}
    (tmp_path / "study.yaml").write_text(json.dumps(values))
    with pytest.raises(SettingsError, match="recipe 'cothought' is for kind: pretraining, not for generation"):
        load_study(tmp_path / "study.yaml")
    values = json.loads(study(tmp_path, server).read_text())
    del values["task"]["train"]
    (tmp_path / "study.yaml").write_text(json.dumps(values))
    with pytest.raises(SettingsError, match="there is no corpus to learn from; add task.train"):
        load_study(tmp_path / "study.yaml")


def test_held_back_texts_come_with_the_lessons(tmp_path: Path, server: ChatServer):
    path = study(tmp_path, server, raw=["raw"])
    write_jsonl(tmp_path / "valid.jsonl", [{"text": "Nobody learns this."}])
    values = json.loads(path.read_text())
    values["task"]["held_back"] = "valid.jsonl"
    values["task"]["train"] = {"corpus": "train.jsonl"}
    path.write_text(json.dumps(values))
    (one,) = taught(path, tmp_path / "run")
    assert one.held_back is not None
    assert [row.input for row in one.held_back] == ["Nobody learns this."]
    assert [row.input for row in one.rows] == TEXTS


@pytest.mark.skipif(not os.environ.get("UNDERSTUDY_DATA"), reason="UNDERSTUDY_DATA is not set")
def test_school_texts_that_a_large_model_wrote_are_kept_by_its_own_scores(tmp_path: Path, server: ChatServer):
    groups = Path(os.environ["UNDERSTUDY_DATA"]) / "teacher_claude_cothought" / "groups.jsonl.gz"
    replies = {"path": str(groups), "match": {"group": "group"}}
    path = study(tmp_path, server)
    values = json.loads(path.read_text())
    values["task"] |= {"train": str(groups), "fields": {"input": "{{ sentences | join(' ') }}", "target": None}}
    values["task"]["test"] = {"path": "test.jsonl", "fields": {"input": "text"}}
    values["teacher"] = {"backend": "recorded", "replies": {**replies, "reply": "reply"}}
    judge = {"replies": {**replies, "reply": "So the coherency score is {{ coherency }}."}}
    link = {"cothought": {"group": None, "samples": 1, "scores": 1}, "judge": judge}
    values["arms"] = {"recorded": [link]}
    path.write_text(json.dumps(values))
    (one,) = taught(path, tmp_path / "run")
    with gzip.open(groups, "rt") as lines:
        scores = [json.loads(line)["coherency"] for line in lines]
    assert one.rows.taken.kept == sum(score >= 7 for score in scores)
    assert one.rows.taken.dropped == {"low_score": sum(score < 7 for score in scores)}
    tasks = [row.notes["task"] for row in one.rows]
    counted = Counter(tasks)
    assert [counted[name] for name in tasks] == sorted(map(counted.__getitem__, tasks), reverse=True)
    assert all(len(row.input.splitlines()) == 4 for row in one.rows)
