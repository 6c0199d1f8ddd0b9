"""The rows of a study's splits, as its folder keeps them: labels, limits, and what may not be learnt from taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from understudy.curate import TestSplit, screen
from understudy.errors import DataError, SettingsError
from understudy.evaluation import RATIONALE
from understudy.evaluation.minimal_pairs import with_known_words
from understudy.records import Dropped, Example, Row, digest
from understudy.sources import Source, content_hash, labels_in, load, load_corpus, read_as, selection
from understudy.splits import SPLITS, Split, StudyTask
from understudy.study import Arm, Study
from understudy.task import Task
from understudy.workspace import Rows, Workspace


def with_labels(study: Study) -> Study:
    """The study with the labels that it left out: the distinct answers of its train file."""
    task = study.task
    if task.labels or task.kind not in ("classification", "multilabel"):
        return study
    if task.train is None:
        raise SettingsError(f"task.labels: required for kind: {task.kind} where there is no task.train; list them")
    labels = sorted({label for source in task.sources("train") for label in labels_in(source, task)})
    if len(labels) < 2:
        raise SettingsError(f"task.labels: the train file holds {len(labels)} different answers; list all labels")
    return study.model_copy(update={"task": task.model_copy(update={"labels": {name: name for name in labels}})})


def limited(task: StudyTask, limit: int | None) -> StudyTask:
    """The task with at most ``limit`` rows of every split."""
    if limit is None:
        return task
    if limit < 1:
        raise SettingsError(f"limit must be at least 1, got {limit!r}")

    def fewer(sources: Sequence[Source]) -> list[Source]:
        return [source.model_copy(update={"limit": min(limit, source.limit or limit)}) for source in sources]

    splits = {split: fewer(task.sources(split)) for split in SPLITS if task.sources(split)}
    return task.model_copy(
        update={split: sources[0] if len(sources) == 1 else tuple(sources) for split, sources in splits.items()}
    )


def plans_of(study: Study, limit: int | None) -> list[Arm]:
    """The study's arms, each with at most ``limit`` rows of every split."""
    return [replace(arm, task=limited(arm.task, limit)) for arm in study.plans()]


def load_test(workspace: Workspace, task: StudyTask) -> tuple[Rows, str]:
    """The locked test split, as the workspace keeps it, and the digest of its content.

    Raises:
        DataError: a metric compares reasoning, and a row has none.
        WorkspaceError: the folder's results were measured on another test split.
    """
    rows = workspace.step(_test_key(task), "test", lambda: _test_rows(task))
    if not len(rows):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rows.taken.dropped.items())
        raise DataError(f"task.test: every row is dropped ({reasons}); lower task.pairs.known_words, or give more text")
    compared = [metric for metric in task.metric_names if metric.startswith(RATIONALE)]
    for row in rows if compared else ():
        if not (row.rationale or "").strip():
            raise DataError(
                f"task.test: row {row.id!r} has no reasoning, which {compared[0]} compares with; take it out"
            )
    return rows, workspace.fix_test_split(rows)


def load_split(
    workspace: Workspace,
    task: StudyTask,
    split: Split,
    test: TestSplit,
    test_digest: str,
    watched: Callable[[Iterable[Row]], Iterator[Row]],
) -> Rows:
    """A split that may be learnt from, as the workspace keeps it; what is near the test split is dropped.

    Args:
        watched: sees every row that is read on its way.

    Raises:
        DataError: nothing is left.
    """
    sources = task.sources(split)
    if not sources:
        return workspace.step(digest("none", split), f"no {split} rows", lambda: iter(()))
    key = digest(*(_source_key(source, task, split) for source in sources), test_digest)
    screened = screen(chain.from_iterable(_readable(source, task, split) for source in sources), test, split)
    if task.kind == "pretraining" and split == "train":
        screened = _not_near(screened, test, split)
    kept = workspace.step(key, split, lambda: watched(screened))
    if not len(kept):
        places = ", ".join(source.place for source in sources)
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in kept.taken.dropped.items())
        raise DataError(f"task.{split}: every row of {places} is dropped: {dropped}")
    return kept


def _test_rows(task: StudyTask) -> Iterator[Row]:
    """The test rows; of pairs of sentences those whose words the training text has, where that is asked for."""
    rows = load(task.test, task, "test")
    if not (task.pairs and task.pairs.known_words):
        return rows
    texts = (row.input for source in task.sources("train") for row in _readable(source, task, "train")
             if isinstance(row, Example))  # fmt: skip
    return with_known_words(rows, texts, task.pairs.known_words)


def _test_key(task: StudyTask) -> str:
    key = _source_key(task.test, task, "test")
    if task.pairs is None:
        return key
    read = task.sources("train") if task.pairs.known_words else ()
    return digest(key, task.pairs.canonical(), *(_source_key(source, task, "train") for source in read))


def _readable(source: Source, task: Task, split: Split) -> Iterator[Row]:
    """The rows of a source; without an answer, or with one that is no option, dropped where they should have one."""
    has_answers = read_as(source, task, split).fields.target is not None
    for row in load_corpus(source, task, split) if source.corpus else load(source, task, split):
        if isinstance(row, Dropped):
            yield row
        elif has_answers and row.target is None:
            yield Dropped(row, split, "no_target", "the row has no answer")
        elif has_answers and row.choices and task.kind == "choice" and row.target not in row.choices:
            yield Dropped(row, split, "not_a_choice", f"{row.target!r} is none of {', '.join(map(repr, row.choices))}")
        else:
            yield row


def _not_near(rows: Iterable[Row], test: TestSplit, split: Split) -> Iterator[Row]:
    """Drop each text that holds one of the test split: of raw text no arm may learn what another may not."""
    for row in rows:
        if isinstance(row, Example) and test.near(row.input):
            yield Dropped(row, split, "near_test_split", "it holds a text of the test split, or nearly")
        else:
            yield row


def _source_key(source: Source, task: Task, split: str) -> str:
    labels, fields = repr(sorted(task.label_of.items())), read_as(source, task, split).fields.canonical()
    return digest(split, content_hash(source), selection(source), task.kind, fields, labels)
