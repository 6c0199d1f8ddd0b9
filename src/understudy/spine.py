"""Run a study: load, make the lessons, train the students, compare them, report. The spine, read from top to bottom."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from understudy.equal import SENTENCES, trim
from understudy.evaluation import score
from understudy.lessons import Classroom, Lessons, limited, load_test, with_labels
from understudy.progress import Silent, Watch
from understudy.records import Prediction, Target, digest
from understudy.report import ArmResult, RunResults, StudentUse, TeacherUse, build, write_reports
from understudy.settings import Settings
from understudy.students import Trained, identity, load_model, train
from understudy.study import Study, load_study
from understudy.teachers import Ledger, Usage
from understudy.workspace import Rows, Workspace
from understudy.workspace.files import disk_errors, write_atomically


def run(
    study: str | Path | Mapping[str, Any] | Study,
    *,
    folder: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run a study, or go on with one that was stopped; what is done is never done again.

    Args:
        study: a YAML file, the same as a mapping, or a ``Study``.
        folder: the run folder; ``runs/<name>`` by default.
        changes: ``"a.b=value"`` each, on top of the study.
        limit: read at most this many rows of every split, in a run folder of its own.

    Returns:
        What stands in ``report.json``.

    Raises:
        UnderstudyError: with one clear line; the run folder and the ledger keep everything finished so far.
    """
    watch = watch or Silent()
    checked, written = load_study(study, changes)
    checked = with_labels(limited(checked, limit))
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(Path(folder or run_folder(checked.name, limit))))
        stack.enter_context(disk_errors(workspace.folder))
        test = load_test(workspace, checked)
        for change in workspace.keep_study(written):
            watch.note(f"changed since the last run: {change}")
        ledger = stack.enter_context(Ledger.open())
        classroom = stack.enter_context(Classroom(workspace, checked, test, ledger, watch))
        lessons = classroom.lessons(checked.plans())
        graduates = [
            graduate
            for contest in _contests(workspace, checked, lessons, ledger)
            for graduate in _train_all(workspace, checked, contest, test, watch)
        ]
        report = build(_results(checked, study, test, graduates))
        write_reports(workspace.folder, report)
        workspace.event("report written")
    return report


def run_folder(name: str, limit: int | None = None) -> Path:
    """Where a study of that name runs by default: ``runs/<name>``, and a folder of its own under a limit."""
    return Path("runs") / (f"{name}-limit-{limit}" if limit else name)


@dataclass(frozen=True)
class Contest:
    """All arms under one entry of ``equal``."""

    entry: str
    lessons: Sequence[Lessons]
    several: bool

    def name(self, lessons: Lessons) -> str:
        return f"{lessons.arm.name}@{self.entry}" if self.several else lessons.arm.name


@dataclass(frozen=True)
class Graduate:
    """An arm after training: one student a seed, with its answers to the test."""

    name: str
    entry: str
    lessons: Lessons
    trained: Mapping[int, Trained]
    answers: Mapping[int, Sequence[Target]]


def _contests(workspace: Workspace, study: Study, lessons: Sequence[Lessons], ledger: Ledger) -> Iterator[Contest]:
    for entry in study.equal:
        fair = lessons if entry in ("steps", "tokens") else trim(workspace, lessons, entry, ledger)
        yield Contest(entry, fair, several=len(study.equal) > 1)


def _train_all(workspace: Workspace, study: Study, contest: Contest, test: Rows, watch: Watch) -> Iterator[Graduate]:
    """Train every arm and seed. Under equal tokens, all get the tokens that the first arm's steps come to."""
    tokens: int | None = None
    for lessons in contest.lessons:
        name = contest.name(lessons)
        folder = workspace.folder / "arms" / name
        chain = [{"step": step.taken.name, "key": step.key} for step in lessons.steps]
        write_atomically(folder / "chain.json", orjson.dumps(chain, option=orjson.OPT_INDENT_2))
        settings = lessons.arm.student
        if contest.entry == "tokens" and tokens is not None:
            settings = settings.model_copy(update={"steps": None, "tokens": tokens})
        trained, answers = {}, {}
        for seed in study.seeds:
            trained[seed], answers[seed] = _train_one(
                folder / f"seed-{seed}", f"{name}: seed {seed}", settings, lessons, seed, test, watch
            )
        tokens = tokens or trained[study.seeds[0]].tokens
        yield Graduate(name, contest.entry, lessons, trained, answers)


def _train_one(
    folder: Path, name: str, settings: Settings, lessons: Lessons, seed: int, test: Rows, watch: Watch
) -> tuple[Trained, Sequence[Target]]:
    """One student: trained, examined on the test split, and kept. Read back where that was done before."""
    task = lessons.arm.task
    key = digest(
        "student", settings.canonical(), _base(settings), str(seed), task.kind, *task.label_names,
        lessons.rows.key, test.key,
    )  # fmt: skip
    done = folder / "scores.json"
    if done.exists() and (kept := orjson.loads(done.read_bytes()))["key"] == key:
        return Trained(**kept["student"]), _read_answers(folder / "predictions.parquet")
    _begin(folder, key)
    trained = train(
        settings, task, lessons.rows, folder / "model", seed=seed,
        progress=lambda what, step, total: watch.step(f"{name}: {what}", step, total),
    )  # fmt: skip
    answers = list(load_model(folder / "model").predict(row.input for row in test))
    _write_answers(folder / "predictions.parquet", test, answers)
    outputs = [answer.output for answer in answers]
    scores = {metric: score(metric, task, [row.target for row in test], outputs) for metric in task.metric_names}
    content = {"key": key, "metrics": scores, "student": asdict(trained)}
    write_atomically(done, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return trained, outputs


def _base(student: Settings) -> str:
    """What the student starts from, by content."""
    return identity(getattr(student, "base"), getattr(student, "revision", None))  # noqa: B009  every kind has a base


def _begin(folder: Path, key: str) -> None:
    """Clear what another study left in a seed's folder; what this one left is gone on with."""
    mark = folder / "key"
    if folder.exists() and not (mark.exists() and mark.read_text() == key):
        shutil.rmtree(folder)
    write_atomically(mark, key.encode())


def _write_answers(path: Path, test: Rows, answers: Sequence[Prediction]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def listed(target: Target) -> list[str]:
        return [] if target is None else [target] if isinstance(target, str) else list(target)

    table = {
        "id": [row.id for row in test],
        "target": [listed(row.target) for row in test],
        "prediction": [listed(answer.output) for answer in answers],
        "one": [isinstance(answer.output, str) for answer in answers],
        "score": [max(answer.scores.values(), default=None) for answer in answers],
    }
    temporary = path.with_suffix(".partial")
    pq.write_table(pa.table(table), temporary)
    temporary.replace(path)


def _read_answers(path: Path) -> list[Target]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["prediction", "one"]).to_pylist()
    return [row["prediction"][0] if row["one"] else tuple(row["prediction"]) for row in table]


def _results(study: Study, source: Any, test: Rows, graduates: Sequence[Graduate]) -> RunResults:
    named = source if isinstance(source, (str, Path)) else "study.yaml"
    return RunResults(
        study=study.name,
        task=study.task,
        test_targets=[row.target for row in test],
        arms=[_arm_result(study, graduate) for graduate in graduates],
        versions=_versions(),
        fair="; ".join(SENTENCES[entry] for entry in study.equal),
        command=f"understudy run {named}",
        notes=study.notes,
    )


def _arm_result(study: Study, graduate: Graduate) -> ArmResult:
    lessons = graduate.lessons
    return ArmResult(
        name=graduate.name,
        chain=[name for name, _ in lessons.arm.chain],
        steps=[step.taken for step in lessons.steps],
        teacher=_teacher_use(lessons),
        students={
            seed: StudentUse(steps=one.steps, tokens=one.tokens, seconds=one.seconds, parameters=one.parameters)
            for seed, one in graduate.trained.items()
        },
        predictions=graduate.answers,
        gold_rows=len(lessons.steps[0]),
        training_rows=len(lessons.rows),
        overrides=[part for part in ("task", "teacher", "student") if study.arms[lessons.arm.name].get(part)],
        equal=graduate.entry if len(study.equal) > 1 else "",
    )


def _teacher_use(lessons: Lessons) -> TeacherUse:
    """All that the arm's replies came to. Nobody knows the tokens of recorded ones; they cost this study nothing."""
    uses = [use for step in lessons.steps if (use := step.manifest.get("teacher"))]
    total = {name: sum(use[name] for use in uses) for name in Usage.__dataclass_fields__}
    recorded = bool(uses) and lessons.arm.teacher is not None and lessons.arm.teacher.backend == "recorded"
    return TeacherUse(
        requests=total["requests"] + total["from_ledger"],
        from_ledger=total["from_ledger"],
        prompt_tokens=None if recorded else total["prompt_tokens"],
        completion_tokens=None if recorded else total["completion_tokens"],
        usd=None if total["unpriced"] else total["usd"],
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in ("understudy", "torch", "transformers", "scikit-learn", "numpy", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
