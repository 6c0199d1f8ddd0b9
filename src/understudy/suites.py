"""A folder of classification tasks: which files belong together, how their rows are read, how they are scored.

The forms are those of GLUE and SuperGLUE as the ``datasets`` hub has them, of the BabyLM evaluation pipeline, and of
MSGS, "Learning Which Features Matter", arXiv 2010.05358.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from understudy.errors import DataError, SettingsError, UnderstudyError
from understudy.evaluation import check_metrics
from understudy.records import Example
from understudy.settings import Settings, did_you_mean, validate
from understudy.sources import Source, load, read
from understudy.sources.source import SUFFIXES
from understudy.task import Fields, Task

CHANGES = "suite.yaml"
FORMS = (  # the first of which a row has all columns; what may be cut off stands last
    "{{ word }}: {{ sentence1 }}\n{{ sentence2 }}",  # WiC
    "{{ question }} {{ answer }}\n{{ paragraph }}",  # MultiRC
    'Is "{{ span2_text }}" the same as "{{ span1_text }}"?\n{{ text }}',  # WSC
    "{{ sentence1 }}\n{{ sentence2 }}",
    "{{ question1 }}\n{{ question2 }}",
    "{{ premise }}\n{{ hypothesis }}",
    "{{ question }}\n{{ passage }}",
    "{{ question }}\n{{ sentence }}",
    "sentence",
    "text",
)
FEATURES = ("linguistic_feature_label", "surface_feature_label")  # of MSGS
NO_LABEL = "-1"  # as the hub writes it
SPLITS = ("test", "valid", "validation", "dev")
_FILE = re.compile(
    rf"(?:(?P<task>.+)\.)?(?P<split>train|(?:{'|'.join(SPLITS)})(?:_matched|_mismatched)?)"
    r"(?:-00000-of-00001)?(?P<suffix>\.\w+)(?:\.gz)?"
)


class TaskChanges(Settings):
    """What ``suite.yaml`` says of a task, where its files do not say it."""

    fields: Fields | None = None
    """Column or template of what goes in, and column of the label."""
    labels: Any = None
    """The labels, or a map from the value in the file to the label's name, as in a study."""
    metrics: tuple[str, ...] = ()
    """Which metrics to report; the table shows the first."""
    skip: bool = False
    """Leave the task out."""


@dataclass(frozen=True)
class SuiteTask:
    """One task of a suite, every row of it read."""

    name: str
    fields: Fields
    labels: Mapping[str, str]
    metrics: tuple[str, ...]
    train: Path
    test: Path
    split: str
    """What the file of the test rows is called: test, validation and the like."""
    is_mixed: bool
    """Whether test rows of both kinds of MSGS are there: of those whose two features agree none tells them apart."""
    notes: tuple[str, ...] = ()


def tasks_in(folder: Path, only: Sequence[str] = ()) -> list[SuiteTask]:
    """The tasks of a folder, by name; all of their rows are read, so that what is wrong is found before any training.

    Args:
        only: the names of the tasks that are wanted; all where there are none.

    Raises:
        SettingsError: there is no task, a name is unknown, or suite.yaml is wrong.
        DataError: a line for each task that cannot be used.
    """
    files = _files(folder)
    changes = _changes(folder, list(files))
    for name in only:
        if name not in files:
            raise SettingsError(f"--task {name!r}: there is no such task. {did_you_mean(name, list(files))}")
    found, broken = [], []
    for name in only or [name for name in files if not changes.get(name, TaskChanges()).skip]:
        try:
            found.append(_task(name, files[name], changes.get(name, TaskChanges())))
        except UnderstudyError as error:
            broken.append(f"{name}: {error}")
    if broken:
        ways = f"mend them, leave them out ({CHANGES}: {{{broken[0].partition(':')[0]}: {{skip: true}}}}), or name the"
        raise DataError("\n".join([*broken, f"nothing was trained: {ways} others with --task"]))
    if not found:
        raise SettingsError(f"{str(folder / CHANGES)!r}: every task is skipped")
    return found


def _files(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """Task -> split -> its files, in ``folder`` and the folders in it."""
    if not folder.is_dir():
        raise SettingsError(f"there is no folder {str(folder)!r}; name the folder that holds the tasks' files")
    found: dict[str, dict[str, list[Path]]] = {}
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        match = _FILE.fullmatch(path.name)
        if match and match["suffix"] in SUFFIXES and path.is_file():
            name, split = match["task"] or path.parent.resolve().name, match["split"]
            if split.endswith("_mismatched"):  # MNLI's second test
                name, split = f"{name}-mm", split.removesuffix("_mismatched")
            found.setdefault(name, {}).setdefault(split.removesuffix("_matched"), []).append(path)
    for name, splits in found.items():
        if name.endswith("-mm") and "train" not in splits and (train := found.get(name[:-3], {}).get("train")):
            splits["train"] = train
    if not found:
        raise SettingsError(
            f"{str(folder)!r} holds no task: files are expected such as cola.train.jsonl and cola.validation.jsonl, "
            f"or cola/train.jsonl and cola/validation.jsonl (splits: train, {', '.join(SPLITS)}; suffixes: "
            f"{', '.join(SUFFIXES)}, each also with .gz)"
        )
    return dict(sorted(found.items()))


def _changes(folder: Path, names: list[str]) -> dict[str, TaskChanges]:
    path = folder / CHANGES
    if not path.is_file():
        return {}
    try:
        written = yaml.safe_load(path.read_text("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(written, dict):
        raise SettingsError(f"{path}: a map of tasks to what is changed is expected, got {written!r}")
    for name in written:
        if name not in names:
            raise SettingsError(f"{path}: there is no task {name!r}. {did_you_mean(str(name), names)}")
    changes = {name: validate(TaskChanges, values, f"{path}: {name}") for name, values in written.items()}
    for name, change in changes.items():
        try:
            check_metrics(change.metrics, "classification")
        except UnderstudyError as error:
            raise SettingsError(f"{path}: {name}: {error}") from None
    return changes


def _task(name: str, files: Mapping[str, Sequence[Path]], changes: TaskChanges) -> SuiteTask:
    for split, paths in files.items():
        if len(paths) > 1:
            raise DataError(f"two files for {split}: {', '.join(map(str, paths))}; take one away")
    if "train" not in files:
        raise DataError(f"there is no train file beside {next(iter(files.values()))[0]}")
    train = files["train"][0]
    columns = _first_row(train)
    fields = _fields(train, columns, changes.fields)
    task = Task(instruction="-", kind="classification", fields=fields)
    told = {"instruction": "-", "kind": "classification", "labels": changes.labels}
    named = validate(Task, told, f"{CHANGES}: {name}") if changes.labels else None
    counts, _ = _labels(train, task, named)
    if None in counts:
        raise DataError(
            f"{train}: {counts[None]:,} of its rows have no label in {fields.target!r}: it is blank, or {NO_LABEL}; "
            f"take them out, or, where {NO_LABEL} is a label, list all labels in {CHANGES}"
        )
    labels = named.label_of if named else {value: value for value in sorted(map(str, counts), key=_in_order)}
    _check_labels(train, fields, labels)
    _check_known(train, counts, labels)
    split, test, mixed, notes = _test(files, task, named, labels)
    metrics = changes.metrics or _metrics(name, columns, labels)
    if "f1" in metrics and "1" not in labels.values():
        raise DataError(f"f1 is that of the label 1, and the labels are {', '.join(labels)}; map them in {CHANGES}")
    return SuiteTask(name, fields, labels, metrics, train, test, split, mixed, tuple(notes))


def _first_row(path: Path) -> Mapping[str, Any]:
    return next(fields for _, fields in read(Source(path=str(path))))


def _fields(path: Path, row: Mapping[str, Any], changes: Fields | None) -> Fields:
    """Where input and label stand: as suite.yaml says, else by the known forms."""
    told = changes.model_dump(exclude_unset=True) if changes else {}
    form = told.get("input") or next((one for one in FORMS if Fields(input=one, target=None).columns() <= {*row}), None)
    if form is None:
        raise DataError(
            f"{path}: its columns ({', '.join(row)}) are of no known form; name what goes in, in {CHANGES}: "
            "{TASK: {fields: {input: ...}}}"
        )
    label = told.get("target") or next((one for one in ("label", *FEATURES) if row.get(one) not in (None, "")), None)
    if label is None:
        raise DataError(
            f"{path}: no label in its first row, whose columns are {', '.join(row)}; name the label's column, in "
            f"{CHANGES}: {{TASK: {{fields: {{target: ...}}}}}}"
        )
    return Fields.model_validate(told | {"input": form, "target": label})


def _labels(path: Path, task: Task, named: Task | None) -> tuple[Counter[str | None], int]:
    """How many rows have each label, ``None`` being none, and of how many the two features of MSGS agree."""
    counts, agree = Counter[str | None](), 0
    for row in _rows(path, task):
        label = row.target if isinstance(row.target, str) else None
        known = named.label_of if named else {}
        counts[None if label == NO_LABEL and label not in known else label] += 1
        features = [row.fields.get(feature) for feature in FEATURES]
        agree += None not in features and features[0] == features[1]
    return counts, agree


def _rows(path: Path, task: Task) -> Iterator[Example]:
    return load(Source(path=str(path)), task)


def _check_labels(path: Path, fields: Fields, labels: Mapping[str, str]) -> None:
    if scale := [label for label in labels if re.fullmatch(r"-?\d+\.\d+", label)]:
        raise DataError(f"{path}: {fields.target!r} holds numbers on a scale, e.g. {scale[0]}: no classification task")
    if len({*labels.values()}) < 2:
        raise DataError(f"{path}: all rows have the one label {next(iter(labels))!r}; at least two are needed")


def _check_known(path: Path, found: Iterable[str | None], labels: Mapping[str, str]) -> None:
    if strange := sorted(map(str, {*found} - {*labels, *labels.values()})):
        raise DataError(f"{path}: {strange[0]!r} is none of the labels {', '.join(labels)}; list all in {CHANGES}")


def _test(
    files: Mapping[str, Sequence[Path]], task: Task, named: Task | None, labels: Mapping[str, str]
) -> tuple[str, Path, bool, list[str]]:
    """The split that is scored, and whether rows must be picked out of it: test, or where that has no labels valid."""
    notes = []
    for split in [split for split in SPLITS if split in files]:
        path, where = files[split][0], str(task.fields.target)
        has_column = where not in task.fields.columns() or where in _first_row(path)
        counts, agree = _labels(path, task, named) if has_column else (Counter({None: 1}), 0)
        if not counts[None]:
            _check_known(path, counts, labels)
            return split, path, 0 < agree < sum(counts.values()), notes
        notes.append(f"its {split} rows have no labels, so they are not used.")
    if notes:
        raise DataError(f"{notes[0].removesuffix('.')}, and there is no other file to score on")
    raise DataError(f"there is no file to score on beside {files['train'][0]}: {', '.join(SPLITS)}")


def _metrics(name: str, columns: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    """The first is the task's own: of CoLA and MSGS MCC, of MRPC and QQP F1, of others accuracy."""
    first = "accuracy"
    if name.lower() == "cola" or "linguistic_feature_type" in columns or {*FEATURES} <= {*columns}:
        first = "mcc"
    elif name.lower() in ("mrpc", "qqp"):
        first = "f1" if "1" in labels.values() else "macro_f1"
    return tuple(dict.fromkeys((first, "accuracy", "macro_f1")))


def _in_order(label: str) -> tuple[float, str]:
    """Numbers by their size, then texts."""
    return (float(label), "") if re.fullmatch(r"-?\d+(\.\d+)?", label) else (float("inf"), label)
