"""The tuned teacher: a model that was fine-tuned on the few gold rows annotates, generates, or does both.

After "Text Data Augmentation in Low-Resource Settings via Fine-Tuning of Large Language Models", Kaddour & Liu 2023,
arXiv 2310.01119, of which only what its summary tells is known: a teacher is fine-tuned on a small part of the data,
labels inputs (annotation) and writes new rows (generation); the student learns from those and the gold rows.

A causal teacher learns ``task tag | input | output | end``: it annotates by going on from the input, and generates by
going on from the tag; for ``start: label`` it learns ``task tag | output | input | end`` too, and writes as many inputs
of each label. A classifier annotates only. A row's ``fields.made_by`` says whether it is gold.

Departs from the paper: the form of the rows, sampling, checks and early stop are ours, as the paper's are not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, tee
from typing import Literal

from pydantic import Field, model_validator

from understudy.curate import checks_of_kind, elected, is_no_copy, noted, quotas, solved, validated
from understudy.errors import ParseError, SettingsError
from understudy.evaluation.numbers import last_number
from understudy.prompts.fields import MARKS, Form, read_pair
from understudy.recipes import Given, Recipe, prepared
from understudy.records import Dropped, Example, Row, digest
from understudy.settings import Settings
from understudy.students.reasoning import answer_in
from understudy.students.settings import CausalSettings, TunableSettings
from understudy.task import Task
from understudy.teachers import Message, Renderer, Reply, Teacher, ask

STEP = "tuned_teacher"


class TunedTeacher(Settings):
    """Which model is tuned, and what it does then."""

    model: TunableSettings
    """What is fine-tuned on the gold rows: a student's settings, of kind causal or classifier."""
    use: Literal["annotate", "generate", "both"] = "annotate"
    """Answer the unlabelled rows, write new ones, or both. A classifier annotates only."""
    tag: str = ""
    """What names the task in the teacher's texts; left out, the task's kind."""
    start: Literal["tag", "label"] | None = None
    """Where generation begins; left out: at a label for classification, else at the tag."""
    rows: int = Field(default=1000, gt=0)
    """How many rows to generate."""
    quota: Literal["equal", "gold"] = "equal"
    """How many rows of each label: as many of each, or as the gold rows have it."""
    temperature: float = Field(default=1.0, ge=0)
    """Of what is drawn: generated rows, and annotations where each input has several samples."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Share of the probability to draw from."""
    max_tokens: int = Field(default=256, gt=0)
    """The longest reply; what does not end there is dropped."""
    samples: int = Field(default=1, gt=0)
    """Annotations of each input; of several the answer that most of them give is taken."""
    second_pass: bool = False
    """Let the teacher annotate what it generated, and keep the rows that get the same answer again."""
    min_logprob: float | None = Field(default=None, le=0)
    """Drop replies whose tokens have a lower mean log-probability; null keeps all."""
    batch_size: int = Field(default=32, gt=0)
    """The most rows that the teacher writes at once."""
    seed: int = 0
    """The seed of the teacher's training."""

    @model_validator(mode="after")
    def _fits(self) -> TunedTeacher:
        if self.model.kind == "classifier" and (self.use != "annotate" or self.samples > 1):
            raise ValueError("model: a classifier annotates only, and draws nothing; use kind: causal")
        if taken := sorted({"prompt", "max_new_tokens", "rank_by", "shots"} & self.model.model_fields_set):
            raise ValueError(f"model.{taken[0]}: the recipe itself sets how its teacher reads and writes; take it out")
        return self

    def form(self, task: Task) -> Form:
        """The texts of a causal teacher."""
        starts_at = self.start or ("label" if task.kind == "classification" else "tag")
        annotates, generates = self.use != "generate" or self.second_pass, self.use != "annotate"
        return Form(self.tag or task.kind, annotates, starts_at if generates else None, task.kind == "multilabel")


def tuned_teacher(examples: Iterable[Example], given: Given, settings: TunedTeacher) -> Iterator[Row]:
    """Pass on the gold rows, marked; then what the teacher annotates, then what it generates."""
    task, there, written, names = given.task, set[str](), set[str](), {row.id for row in given.train}
    for row in noted(examples, there):
        is_gold = row.id.partition("+")[0] in names
        yield row.replace(fields={**row.fields, "made_by": "gold"}) if is_gold else row
    gold = solved(given.train, task, given.leaks, STEP)
    teacher, checks = tuned(gold, given, settings), checks_of_kind(task, given.leaks, last_number)
    is_new = partial(is_no_copy, gold, there, reason="copy_of_gold", written=written)
    if settings.use != "generate":
        rows = annotated(given.unlabelled, teacher, task, settings)
        yield from validated(rows, [*checks, is_new()], STEP)
    if settings.use != "annotate":
        rows = validated(generated(gold, teacher, task, settings), checks, STEP)
        rows = agreed(rows, teacher, task, settings) if settings.second_pass else rows
        yield from validated(rows, [is_new(by="answers" if task.kind == "generation" else "input")], STEP)


def tuned(gold: Sequence[Example], given: Given, settings: TunedTeacher) -> Teacher:
    """The teacher, fine-tuned on the gold rows."""
    model, task, card = settings.model, given.task, {"Recipe": STEP}
    if isinstance(model, CausalSettings):
        room = {} if isinstance(model.base, str) else {"max_new_tokens": settings.max_tokens}  # positions
        model = model.model_copy(update={"prompt": "bare", **room})
        gold, card = list(settings.form(task).lessons(gold)), {**card, "Texts": settings.form(task).told()}
        task = Task(instruction=task.instruction, kind="generation")
    teacher = given.tuned(model, task, gold, seed=settings.seed, batch_size=settings.batch_size, card=card)
    return teacher.with_sampling(max_tokens=settings.max_tokens)


def annotated(rows: Iterable[Example], teacher: Teacher, task: Task, settings: TunedTeacher) -> Iterator[Row]:
    """Each unlabelled row with the teacher's answer, or with the one that most of its samples give."""
    n = settings.samples

    def read(row: Example, reply: Reply) -> Example:
        made, target = row if n > 1 else row.child(STEP), answer_in(reply.text, task)
        return made.replace(target=target, fields=told(row, "annotation", reply, settings))

    if n > 1:
        teacher = teacher.with_sampling(temperature=settings.temperature, top_p=settings.top_p)
    answers = ask(teacher, rows, annotating(task, settings), read, n=n, step=STEP, form=Reply)
    return (elected(some, STEP) for some in iter(lambda: list(islice(answers, n)), [])) if n > 1 else answers


def generated(gold: Sequence[Example], teacher: Teacher, task: Task, settings: TunedTeacher) -> Iterator[Row]:
    """New rows: so many inputs of each label, or so many inputs each with its output."""
    form, labels = settings.form(task), task.label_names if settings.form(task).starts_at == "label" else (None,)
    held = Counter(row.target for row in gold) if settings.quota == "gold" else {}

    def start(row: Example) -> list[Message]:
        return [{"role": "user", "content": form.to_generate(row.fields["label"])}]

    def read(row: Example, reply: Reply) -> Example:
        label = row.fields["label"]
        new, output = (reply.text, label) if label else read_pair(reply.text)
        name = f"{row.id}-{digest(reply.text, size=3)}"  # a chain may generate twice
        made = row.replace(id=name, input=new.strip(), target=answer_in(output, task), parents=())
        return made.replace(fields=told(row, "generation", reply, settings))

    teacher = teacher.with_sampling(temperature=settings.temperature, top_p=settings.top_p)
    counts = quotas(settings.rows, [held.get(label, 1) for label in labels])
    for count in sorted({*counts} - {0}):  # labels of one count are asked for together
        names = [label for label, one in zip(labels, counts, strict=True) if one == count]
        wanted = [Example(id=f"generated/{name or 'any'}", input="", fields={"label": name}) for name in names]
        yield from ask(teacher, wanted, start, read, n=count, step=STEP, form=Reply)


def agreed(rows: Iterator[Row], teacher: Teacher, task: Task, settings: TunedTeacher) -> Iterator[Row]:
    """The generated rows that the teacher annotates as it wrote them."""

    def read(row: Example, reply: Reply) -> Row:
        answer = answer_in(reply.text, task)
        detail = f"it wrote {row.target!r} and then annotated {answer!r}"
        return row if answer == row.target else Dropped(row, STEP, "teacher_disagrees", detail)

    asked, rows = tee(rows)
    asked = (row for row in asked if isinstance(row, Example))
    again = ask(teacher, asked, annotating(task, settings), read, step=STEP, form=Reply)
    return (next(again) if isinstance(row, Example) else row for row in rows)


def annotating(task: Task, settings: TunedTeacher) -> Renderer:
    """What is asked about an input: a classifier reads it as it is."""
    text = settings.form(task).to_annotate if settings.model.kind == "causal" else str
    return lambda row: [{"role": "user", "content": text(row.input)}]


def told(row: Example, made_by: str, reply: Reply, settings: TunedTeacher) -> dict[str, object]:
    """The row's fields, with what made it and how sure the teacher was."""
    sure = reply.mean_logprob
    if sure is not None and settings.min_logprob is not None and sure < settings.min_logprob:
        raise ParseError("unsure", f"the mean log-probability of its tokens is {sure:.3f}")
    return {**row.fields, "made_by": made_by, "mean_logprob": sure}


def base_of(settings: TunedTeacher, task: Task) -> str:
    """What the teacher starts from, by content. Raises: SettingsError: the recipe does not go with the task."""
    if task.kind in ("choice", "pretraining") or (settings.start == "label" and task.kind != "classification"):
        raise SettingsError(f"recipe {STEP!r}: no rows of kind: {task.kind}, and start: label for classification only")
    learns = task if settings.model.kind == "classifier" else Task(instruction=task.instruction, kind="generation")
    return digest(prepared(settings.model, learns, f"{STEP}.model"), MARKS)


RECIPE = Recipe(
    make=tuned_teacher,
    settings=TunedTeacher,
    asks=False,
    summary="rows annotated and generated by a teacher that was fine-tuned on the gold rows",
    needs=lambda settings: frozenset({"train", "target"} | ({"unlabelled"} if settings.use != "generate" else set())),
    gives=lambda settings: frozenset({"target"}),
    reads=base_of,
    students=("model",),
    ready=lambda task, train, leaks: solved(train, task, leaks, STEP),
    unforeseen=lambda settings: "no time is counted: the teacher is trained and asked here; nor is a second pass",
)
