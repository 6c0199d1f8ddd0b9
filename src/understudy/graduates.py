"""From lessons to graduates: every arm's students trained, examined on the test split, and kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from understudy.curate import TestSplit, draw_shots
from understudy.equal import trim
from understudy.errors import DataError
from understudy.evaluation import score
from understudy.lessons import Lessons
from understudy.progress import Watch
from understudy.records import Example, Prediction, Target, digest
from understudy.settings import Settings
from understudy.students import Trained, identity, load_model, train
from understudy.students.settings import LanguageSettings
from understudy.study import Study
from understudy.teachers import Ledger
from understudy.workspace import Rows, Workspace
from understudy.workspace.files import write_atomically


@dataclass(frozen=True)
class Pupil:
    """One student to be: where it goes, what it is called to a person, and what its training depends on."""

    folder: Path
    name: str
    settings: Settings
    lessons: Lessons
    seed: int


@dataclass(frozen=True)
class Graduate:
    """An arm after training: one student a seed, with its answers to the test."""

    name: str
    entry: str
    lessons: Lessons
    trained: Mapping[int, Trained]
    answers: Mapping[int, Sequence[Target]]
    truncated: int
    """The test inputs of which a student has not read all, as they are longer than it reads; the most of any seed."""
    continues: str = ""
    """The graduate that this one's students started as."""


@dataclass(frozen=True)
class _Examined:
    """What is known of one student after the test."""

    trained: Trained
    answers: Sequence[Target]
    truncated: int


def train_all(
    workspace: Workspace,
    study: Study,
    lessons: Sequence[Lessons],
    bases: Mapping[str, str],
    test: tuple[Rows, str],
    ledger: Ledger,
    watch: Watch,
) -> Iterator[Graduate]:
    """Train every arm with every seed, under each entry of ``equal``; what was trained before is read back.

    Args:
        bases: arm -> what its student starts from, by content.
        test: the test rows and the digest of their content.
    """
    for entry in study.equal:
        fair = lessons if entry in ("steps", "tokens") else trim(workspace, lessons, entry, ledger)
        for one in fair:
            _check_rows(one)
        tokens: int | None = None  # under equal tokens, all get those that the first arm's steps come to
        for one in fair:
            name = _name(study, one.arm.name, entry)
            folder = workspace.folder / "arms" / name
            chain = [{"step": step.taken.name, "key": step.folder.name} for step in one.steps]
            write_atomically(folder / "chain.json", orjson.dumps(chain, option=orjson.OPT_INDENT_2))
            settings, base = one.arm.student, bases[one.arm.name]
            if entry == "tokens" and tokens is not None:
                settings = settings.model_copy(update={"steps": None, "tokens": tokens})
            results, continues = {}, _name(study, one.arm.continues, entry) if one.arm.continues else ""
            for seed in study.seeds:
                if continues:
                    stage = folder.with_name(continues) / f"seed-{seed}" / "model"
                    settings = settings.model_copy(update={"base": str(stage), "revision": None})
                    base = identity(str(stage))
                pupil = Pupil(folder / f"seed-{seed}", f"{name}: seed {seed}", settings, one, seed)
                results[seed] = _train(pupil, base, test, watch)
            tokens = tokens or results[study.seeds[0]].trained.tokens
            trained = {seed: examined.trained for seed, examined in results.items()}
            answers = {seed: examined.answers for seed, examined in results.items()}
            truncated = max(examined.truncated for examined in results.values())
            yield Graduate(name, entry, one, trained, answers, truncated, continues)


def _check_rows(lessons: Lessons) -> None:
    """Say whose rows are all dropped, and why, before any student is trained."""
    if not len(lessons.rows):
        dropped = [f"{step.taken.name}: {n:,} {why}" for step in lessons.steps for why, n in step.taken.dropped.items()]
        raise DataError(
            f"arm {lessons.arm.name!r}: no row is left to learn from (dropped at {', '.join(dropped)}); see "
            f"{str(lessons.rows.folder / 'dropped.parquet')!r}"
        )


def _name(study: Study, arm: str, entry: str) -> str:
    """What an arm is called under an entry of ``equal``."""
    return f"{arm}@{entry}" if len(study.equal) > 1 else arm


def _train(pupil: Pupil, base: str, test: tuple[Rows, str], watch: Watch) -> _Examined:
    """One student: trained, examined on the test split, and kept. Read back where that was done before."""
    lessons, folder, (rows, test_digest) = pupil.lessons, pupil.folder, test
    task = lessons.arm.task
    settings = pupil.settings.model_dump_json(exclude={"base", "checkpoint_every_s"})  # base is there by content
    key = digest(
        "student", settings, base, str(pupil.seed), task.kind, *task.label_names, lessons.rows.key, test_digest
    )
    scores, predictions = folder / "scores.json", folder / "predictions.parquet"
    done = _done(scores) if predictions.exists() else {}
    if done.get("key") == key:
        trained, outputs, truncated = Trained(**done["student"]), _read_answers(predictions), done["truncated"]
    else:
        _begin(folder, key)
        trained = train(
            pupil.settings, task, lessons.rows, folder / "model", seed=pupil.seed,
            progress=lambda what, step, total: watch.step(f"{pupil.name}: {what}", step, total),
            card=_card(pupil), shots=_shots(pupil, rows),
        )  # fmt: skip
        model = load_model(folder / "model")
        answers = list(model.predict(rows))
        truncated = model.truncated
        _write_answers(predictions, rows, answers)
        outputs = [answer.output for answer in answers]
    if done.get("key") != key or set(done["metrics"]) != set(task.metric_names):
        targets = [row.target for row in rows]
        metrics = {metric: score(metric, task, targets, outputs) for metric in task.metric_names}
        content = {"key": key, "metrics": metrics, "student": asdict(trained), "truncated": truncated}
        write_atomically(scores, orjson.dumps(content, option=orjson.OPT_INDENT_2))
    return _Examined(trained, outputs, truncated)


def _card(pupil: Pupil) -> dict[str, str]:
    arm = pupil.lessons.arm
    base = {"Base": f"the student of arm {arm.continues}"} if arm.continues else {}
    return {"Arm": pupil.name, "Chain": " > ".join(arm.recipes)} | base


def _shots(pupil: Pupil, test: Rows) -> Sequence[Example]:
    """Gold rows for the student's prompt: the same ones that a recipe of the arm would draw."""
    if not (isinstance(pupil.settings, LanguageSettings) and pupil.settings.shots):
        return ()
    task, gold = pupil.lessons.arm.task, pupil.lessons.steps[0]
    return draw_shots(gold, task, pupil.settings.shots, seed=0, leaks=TestSplit(test).near)


def _done(scores: Path) -> dict[str, Any]:
    try:
        done = orjson.loads(scores.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):  # broken is as good as absent
        return {}
    return done if isinstance(done, dict) and done.keys() >= {"key", "student", "metrics", "truncated"} else {}


def _begin(folder: Path, key: str) -> None:
    """Clear what another study left in a seed's folder; what this one left is gone on with."""
    mark = folder / "key"
    if folder.exists() and not (mark.exists() and mark.read_text() == key):
        (folder / "scores.json").unlink(missing_ok=True)  # first what says that the rest is whole
        mark.unlink(missing_ok=True)
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
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(table), content)
    write_atomically(path, content.getvalue().to_pybytes())


def _read_answers(path: Path) -> list[Target]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["prediction", "one"]).to_pylist()
    return [row["prediction"][0] if row["one"] else tuple(row["prediction"]) for row in table]
