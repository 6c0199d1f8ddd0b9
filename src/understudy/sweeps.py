"""One study over the values of a key: a run for each value, then one report with one picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from understudy.errors import MissingPackage, SettingsError, UnderstudyError, WorkspaceError
from understudy.progress import Silent, Watch
from understudy.reading import plans_of, with_labels
from understudy.records import digest
from understudy.report import SweepRun, build_sweep, write_sweep
from understudy.settings import without_passwords
from understudy.spine import command_of, run, run_folder
from understudy.study import Study
from understudy.study_file import load_study
from understudy.workspace.files import disk_errors

_LONGEST_FOLDER = 100


def sweep(
    study: str | Path | Mapping[str, Any] | Study,
    values: Mapping[str, Sequence[Any]],
    *,
    folder: str | Path | None = None,
    changes: Sequence[str] = (),
    limit: int | None = None,
    offline: bool = False,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run a study once for each value of a key, one after another, or go on with a sweep that was stopped.

    Every run has a run folder of its own inside the sweep's; they share the ledger, and the study's budget is for all
    of them together. A run that fails does not stop the others.

    Args:
        values: key -> its values, e.g. ``{"task.train.limit": [25, 125, None]}``; ``None`` and ``"all"`` make the key
            null. With several keys every combination is a run, and the first key is the axis of the report.
        folder: the sweep's folder; ``runs/<name>-sweep`` by default.
        changes, limit, offline, watch: as for ``run``.

    Returns:
        What stands in ``sweep.json``.

    Raises:
        SettingsError: a combination is refused; nothing was run.
        UnderstudyError: a run failed; the report of the others is written, and the same command goes on.
    """
    watch = watch or Silent()
    planned = _plan(values)
    checked = [_check(study, one, [*changes, *own], limit) for one, own in planned]
    place = Path(folder or run_folder(f"{checked[0].name}-sweep", limit))
    ended: list[SweepRun] = []
    failures: list[UnderstudyError] = []
    with _alone(place):
        for number, (one, own) in enumerate(planned, start=1):
            watch.note(f"run {number} of {len(planned)}: {one.text}")
            try:
                report = run(
                    study,
                    folder=place / one.folder,
                    changes=[*changes, *own],
                    limit=limit,
                    offline=offline,
                    watch=watch,
                    spent_file=place / "spent.json",
                    models=place / "teachers",
                )
                ended.append(replace(one, report=report))
            except UnderstudyError as error:
                failures.append(error)
                ended.append(replace(one, error=without_passwords(str(error))))
                watch.note(f"{one.text} failed: {ended[-1].error}")
        if len(failures) == len(planned):
            raise _failed(ended, failures)
        words = [f"{key}={','.join(map(_written, every))}" for key, every in values.items()]
        command = command_of("sweep", study, *words, changes=changes, limit=limit, folder=folder, offline=offline)
        told = build_sweep(ended, command)
        try:
            write_sweep(place, told)
        except MissingPackage as error:
            watch.note(f"no picture: {error}, and run the same command again")
    if failures:
        raise _failed(ended, failures)
    return told


def read_values(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The values of ``KEY=V1,V2,...``, each read as YAML; lists and mappings stand in their brackets.

    Raises:
        SettingsError: a text is not written so, or a key stands twice.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        key, sign, listed = text.partition("=")
        if not sign or not key or not listed.strip():
            raise SettingsError(f"{text!r}: write it as KEY=V1,V2,..., e.g. task.train.limit=25,125,500,all")
        if key in found:
            raise SettingsError(f"{text!r}: {key!r} stands twice; give all of its values at once")
        try:
            found[key] = yaml.safe_load(f"[{listed}]")
        except yaml.YAMLError as error:
            why = " ".join(str(getattr(error, "problem", None) or error).split())
            raise SettingsError(f"{text!r}: the values are no YAML list: {why}; put such a text in quotes") from None
    return found


def _plan(values: Mapping[str, Sequence[Any]]) -> list[tuple[SweepRun, list[str]]]:
    """Every combination as it may be written down, and the changes that make it; the first key's values slowest."""
    if not values:
        raise SettingsError("a sweep needs a key and its values, e.g. task.train.limit=25,125,500,all")
    for key, every in values.items():
        texts = [_text(key, value) for value in every]
        if not texts:
            raise SettingsError(f"{key}: a sweep needs at least one value")
        if twice := [text for text in texts if texts.count(text) > 1]:
            raise SettingsError(f"{key}: the value {twice[0]!r} stands twice")
    planned = []
    for combination in product(*values.values()):
        given = list(zip(values, combination, strict=True))
        texts = {key: _text(key, value) for key, value in given}
        plain = {k: texts[k] if isinstance(_null(value), (str, list, dict)) else _null(value) for k, value in given}
        one = SweepRun(values=plain, texts=texts, folder=_folder(texts))
        planned.append((one, [f"{key}={_written(value)}" for key, value in given]))
    return planned


def _check(study: Any, one: SweepRun, changes: Sequence[str], limit: int | None) -> Study:
    """All that can be said of a run without reading more than the labels.

    Raises:
        SettingsError, DataError: with the values that are refused.
    """
    try:
        checked = with_labels(load_study(study, changes)[0])
        plans_of(checked, limit)
    except UnderstudyError as error:
        raise type(error)(f"{one.text}: {error}") from None
    return checked


def _written(value: Any) -> str:
    """A value as it stands in a YAML list in one line.

    Raises:
        SettingsError: it is nothing that YAML has.
    """
    try:
        text = yaml.safe_dump([_null(value)], default_flow_style=True, allow_unicode=True, width=10**9)
    except yaml.YAMLError:
        known = "a text, a number, a truth value, a list, a mapping or null"
        raise SettingsError(f"a value is {known}, got {value!r}") from None
    return text.strip()[1:-1]


def _null(value: Any) -> Any:
    return None if value == "all" else value


def _text(key: str, value: Any) -> str:
    """A value for a person, without a password that it may hold."""
    if _null(value) is None:
        return "all" if key.rpartition(".")[2] in ("limit", "sample", "per_label") else "null"
    text = value if isinstance(value, str) else _written(value)
    return without_passwords(f"{key}={text}").removeprefix(f"{key}=")


def _folder(texts: Mapping[str, str]) -> str:
    name = ",".join(f"{key}={text}" for key, text in texts.items())
    plain = re.sub(r"[^\w.,=+ -]", "-", name)[:_LONGEST_FOLDER]
    return name if name == plain else f"{plain}-{digest(name)[:8]}"


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """The sweep's folder, for one process at a time: its runs spend one budget."""
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise WorkspaceError(
                f"another process sweeps in {str(place)!r}; wait until it ends, stop it, or give this sweep another "
                "folder with --folder"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _failed(ended: Sequence[SweepRun], failures: Sequence[UnderstudyError]) -> UnderstudyError:
    first = next(one for one in ended if one.error)
    others = "; the report has the others" if len(failures) < len(ended) else ""
    told = UnderstudyError(
        f"{len(failures)} of {len(ended)} runs failed{others}. The first of them, {first.text}: {first.error}\n"
        "What is finished is kept: the same command goes on"
    )
    told.exit_code = failures[0].exit_code
    return told
