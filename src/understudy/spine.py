"""Run a study: load, make the lessons, train the students, compare them, report. The spine, read from top to bottom."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from understudy.diversities import diversities
from understudy.equal import SENTENCES
from understudy.graduates import Graduate, origin_of, train_all
from understudy.lessons import Classroom, Lessons
from understudy.progress import Silent, Watch
from understudy.reading import limited, load_test, plans_of, with_labels
from understudy.report import ArmResult, RunResults, StudentUse, TeacherUse, build, write_reports
from understudy.settings import Settings, without_passwords
from understudy.students import prepare
from understudy.study import Study
from understudy.study_file import load_study
from understudy.teachers import PASSING, Ledger, TeacherSettings, Usage
from understudy.workspace import Rows, Workspace
from understudy.workspace.files import disk_errors
from understudy.writings import inference_of, segments_of


def run(
    study: str | Path | Mapping[str, Any] | Study,
    *,
    folder: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    offline: bool = False,
    watch: Watch | None = None,
    spent_file: Path | None = None,
    models: Path | None = None,
) -> dict[str, Any]:
    """Run a study, or go on with one that was stopped; what is done is never done again.

    Args:
        study: a YAML file, the same as a mapping, or a ``Study``.
        folder: the run folder; ``runs/<name>`` by default.
        changes: ``"a.b=value"`` each, on top of the study.
        limit: read at most this many rows of every source of every split, in a run folder of its own.
        offline: ask no teacher: every reply must be in the ledger, as after the import of a cassette. Recorded replies
            are read as always.
        spent_file: counts what was spent of the budget; the run folder's own by default. Runs that follow one another
            and name one file share one budget.
        models: where models lie that recipes train; in the run folder by default. Runs that name one folder share them.

    Returns:
        What stands in ``report.json``.

    Raises:
        UnderstudyError: with one clear line; the run folder and the ledger keep everything finished so far.
    """
    watch = watch or Silent()
    checked, written = load_study(study, changes)
    checked = with_labels(checked)
    with ExitStack() as stack:
        workspace = stack.enter_context(Workspace(Path(folder or run_folder(checked.name, limit))))
        stack.enter_context(disk_errors(workspace.folder))
        test = load_test(workspace, limited(checked.task, limit))
        arms = plans_of(checked, limit)
        ledger = stack.enter_context(Ledger.open())
        classroom = Classroom(
            workspace, checked, test, ledger, watch, offline=offline, spent_file=spent_file, models=models
        )
        stack.enter_context(classroom)
        classroom.prepare(arms)
        bases = {arm.name: origin_of(arm) for arm in arms}
        for change in workspace.keep_study(written):
            watch.note(f"changed since the last run: {change}")
        lessons = classroom.lessons(arms)
        graduates = list(train_all(workspace, checked, lessons, bases, test, ledger, watch))
        command = command_of("run", study, changes=changes, limit=limit, folder=folder, offline=offline)
        diverse = diversities([one.lessons.questions for one in graduates], watch)
        report = build(_results(checked, command, test[0], graduates, ledger, diverse))
        write_reports(workspace.folder, report)
        workspace.event("report written")
    return report


def run_folder(name: str, limit: int | None = None) -> Path:
    """Where a study of that name runs by default: ``runs/<name>``, and a folder of its own under a limit."""
    return Path("runs") / (f"{name}-limit-{limit}" if limit else name)


def command_of(
    name: str,
    study: Any,
    *more: str,
    changes: Sequence[str],
    limit: int | None,
    folder: str | Path | None,
    offline: bool,
) -> str:
    """What makes the same again on the command line; nothing for a study that is no file."""
    if not isinstance(study, (str, Path)):
        return ""
    words = ["understudy", name, str(study), *more, *(word for change in changes for word in ("--set", change))]
    words += ["--limit", str(limit)] if limit else []
    words += ["--folder", str(folder)] if folder else []
    words += ["--offline"] if offline else []
    return without_passwords(shlex.join(words))


def _results(
    study: Study,
    command: str,
    test: Rows,
    graduates: Sequence[Graduate],
    ledger: Ledger,
    diverse: Mapping[str, Mapping[str, Any]],
) -> RunResults:
    return RunResults(
        study=study.name,
        task=study.task,
        test=[*test],
        arms=[_arm_result(study, one, ledger, diverse[one.lessons.questions.key]) for one in graduates],
        versions=_versions(),
        fair="; ".join(SENTENCES[entry] for entry in study.equal) + _own_students(graduates, study),
        command=command,
        teachers=sorted({_who(teacher) for one in graduates for teacher in one.lessons.arm.teachers}),
        students=sorted({_student(one.lessons.arm.student) for one in graduates}),
        notes=[*study.notes, *_notes(graduates)],
    )


def _own_students(graduates: Sequence[Graduate], study: Study) -> str:
    own = [one.name for one in graduates if study.arms[one.lessons.arm.name].get("student")]
    stages = [f"{one.name} after {one.continues}" for one in graduates if one.continues]
    told = [f"but {', '.join(own)}: a student of its own"] if own else []
    told += [f"in stages, on top of what the stage before took: {', '.join(stages)}"] if stages else []
    return f" ({'; '.join(told)})" if told else ""


def _who(teacher: TeacherSettings) -> str:
    model = Path(teacher.model or "unnamed")
    called = "/".join(model.parts[-3:]) if model.is_absolute() else teacher.model  # no path of one machine
    return f"{teacher.name or called or 'unnamed'} ({teacher.backend})"


def _student(student: Settings) -> str:
    told = student.model_dump(mode="json")
    return f"{_start(told)}, {told['steps']} steps"


def _start(told: Mapping[str, Any]) -> str:
    """What a student starts from, in words."""
    base, layers = told["base"], told.get("layers")
    if isinstance(base, dict):
        base = f"random weights ({base['architecture']}, {base['layers']} layers, {base['hidden_size']} wide)"
    base = Path(base).name if Path(base).is_absolute() else base  # no path of one machine
    return f"{told['kind']} on {base}" + (f", its first {layers} layers" if layers else "")


def _arm_result(study: Study, graduate: Graduate, ledger: Ledger, diverse: Mapping[str, Any]) -> ArmResult:
    lessons = graduate.lessons
    return ArmResult(
        name=graduate.name,
        chain=lessons.arm.recipes,
        steps=[step.taken for step in lessons.steps],
        unlabelled=lessons.unlabelled.taken if lessons.unlabelled else None,
        teacher=_trimmed_use(lessons, ledger) if lessons.is_trimmed else _teacher_use(lessons),
        students={
            seed: StudentUse(
                students=len(parts),
                steps=sum(one.steps for one in parts.values()),
                tokens=sum(one.tokens for one in parts.values()),
                seconds=sum(one.seconds for one in parts.values()),
                parameters=sum(one.parameters for one in parts.values()),
                curve=next((curve for one in parts.values() if (curve := one.details.get("curve"))), ()),
                perplexity_a_word=next(
                    (x for one in parts.values() if (x := one.details.get("perplexity_a_word")) is not None), None
                ),
            )
            for seed, parts in graduate.trained.items()
        },
        predictions=graduate.answers,
        segments=segments_of(lessons),
        inference=inference_of(graduate.answers),
        gold_rows=len(lessons.rows if lessons.arm.recipes == ("gold",) else lessons.steps[0]),
        training_rows=len(lessons.rows),
        diversity=diverse,
        overrides=[part for part in ("task", "teacher", "student") if study.arms[lessons.arm.name].get(part)],
        continues=graduate.continues,
        equal=graduate.entry if len(study.equal) > 1 else "",
    )


def _teacher_use(lessons: Lessons) -> TeacherUse:
    """All that the arm's replies came to; what nobody counted or priced is ``None``."""
    total = _usage(lessons)
    return TeacherUse(
        requests=total.requests + total.from_ledger,
        from_ledger=total.from_ledger,
        prompt_tokens=None if total.uncounted else total.prompt_tokens,
        completion_tokens=None if total.uncounted else total.completion_tokens,
        usd=None if total.unpriced else total.usd,
        written=total.written,
    )


def _trimmed_use(lessons: Lessons, ledger: Ledger) -> TeacherUse:
    """What the replies behind the rows that were not cut off came to, and those that came to nothing before."""
    keys = {key for row in lessons.rows for key in row.replies}
    keys |= {key for step in lessons.steps[:-1] for row in step.dropped() for key in row.example.replies}
    replies = ledger.get_many(sorted(keys)).values()
    uncounted = any(reply.prompt_tokens is None or reply.completion_tokens is None for reply in replies)
    return TeacherUse(
        requests=len(replies),
        prompt_tokens=None if uncounted else sum(reply.prompt_tokens or 0 for reply in replies),
        completion_tokens=None if uncounted else sum(reply.completion_tokens or 0 for reply in replies),
        usd=None if any(reply.usd is None for reply in replies) else sum(reply.usd or 0.0 for reply in replies),
        written=Counter(reply.model for reply in replies if reply.is_written),
    )


def _usage(lessons: Lessons) -> Usage:
    return Usage.total(use for step in lessons.steps if (use := step.manifest.get("teacher")))


def _notes(graduates: Sequence[Graduate]) -> Iterator[str]:
    """What the numbers do not tell: replies that were recorded, steps that mostly failed."""
    if recorded := [one.name for one in graduates if _usage(one.lessons).recorded]:
        yield (
            f"{', '.join(recorded)}: the teacher's replies were recorded beforehand and matched by the rows' fields, "
            "not by prompt; their tokens are not known and nothing was paid for them here."
        )
    for writer in sorted({writer for one in graduates for writer in _usage(one.lessons).written}):
        arms = ", ".join(one.name for one in graduates if writer in _usage(one.lessons).written)
        yield f"{arms}: replies written by {writer}, outside any endpoint: no token was counted and nothing was paid."
    for one in graduates:
        yield from _own_teachers(one)
        if one.truncated:
            what = "test inputs are" if inference_of(one.answers) is None else "times a text to go on with was"
            yield f"{one.name}: {one.truncated:,} {what} longer than the student reads (student.max_length)."
        for step in one.lessons.steps:
            if passing := {r: n for r, n in step.taken.dropped.items() if r in PASSING}:
                reasons = ", ".join(f"{count:,} {reason}" for reason, count in passing.items())
                name = f"{one.name}, {step.taken.name}"
                yield f"{name}: not every row was answered ({reasons}); run again to ask for them."
            asked = step.manifest.get("teacher") or {}
            requests = asked.get("requests", 0) + asked.get("from_ledger", 0)
            if requests and (told := mostly_dropped(step)):
                yield f"{one.name}: most of what {requests:,} requests of {step.taken.name} brought was dropped: {told}"


def mostly_dropped(step: Rows) -> str:
    """Why most of the rows that hold replies are out, or nothing: rows that were never sent do not count."""
    if sum(step.taken.dropped.values()) * 2 <= step.taken.made:
        return ""
    dropped = Counter(row.reason for row in step.dropped() if row.example.replies)
    rows = dropped.total() + sum(bool(row.replies) for row in step)
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(dropped.items()))
    return f"{reasons} of {rows:,} rows." if dropped.total() * 2 > rows else ""


def _own_teachers(graduate: Graduate) -> Iterator[str]:
    """Which teachers the study trained for an arm, what that took, and what came of it."""
    arm = graduate.lessons.arm
    for told in (told for step in graduate.lessons.steps for told in step.manifest.get("tuned", ())):
        details, student = told["details"], arm.student.model_dump(mode="json")
        said = [
            f"{graduate.name}: its {told.get('role', 'tuned teacher')} is a {_start(told)}, trained here on "
            f"{told['rows']:,} rows in {told['steps']:,} steps, {told['seconds']:,.0f} s"
        ]
        if details.get("kept") == "head":
            said.append("its encoder is as it was: a head alone was as good on rows held back, or steps are 0")
        if details.get("truncated"):
            limit = "scorer" if told.get("role") == "scorer" else "model"
            said.append(f"{details['truncated']:,} of its texts were cut, as they are longer than {limit}.max_length")
        is_alike = (told["kind"], told["layers"]) == (student["kind"], student.get("layers"))
        if is_alike and told.get("role") != "scorer" and told["origin"] == prepare(arm.student, arm.task):
            said.append("its student starts from the same: self-training")
        yield "; ".join(said) + "."


def _versions() -> dict[str, str]:
    found = {}
    for package in ("understudy", "torch", "transformers", "scikit-learn", "numpy", "pyarrow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
