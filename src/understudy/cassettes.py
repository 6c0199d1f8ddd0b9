"""Cassettes of studies: the replies that a run used, out to a file and in again, and the requests it still needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import orjson
import yaml

from understudy.errors import DataError, SettingsError
from understudy.lessons import Classroom, Lessons
from understudy.progress import Silent, Watch
from understudy.reading import limited, load_test, plans_of, with_labels
from understudy.recipes import open_recipe
from understudy.report import read_report
from understudy.settings import fill_variables
from understudy.spine import run_folder
from understudy.study import Study
from understudy.study_file import load_study
from understudy.teachers import (
    NOT_IN_LEDGER,
    Exported,
    Imported,
    Ledger,
    RequestFile,
    Secrets,
    import_replies,
    write_cassette,
)
from understudy.teachers import import_cassette as import_from
from understudy.workspace import Rows, Workspace


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests that were written."""

    path: Path
    requests: int
    waiting: tuple[str, ...]
    """``arm: step`` of what asks about rows that these replies will make: it may need more requests after them."""


def export_cassette(
    study: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    changes: Sequence[str] = (),
    limit: int | None = None,
    licence: str | None = None,
) -> Exported:
    """Write the replies that a finished run used, those behind dropped rows too, into a cassette.

    Args:
        study: the study's file, run in the folder where it runs by default, or any run folder.
        file: ``.jsonl``, or ``.jsonl.gz`` to pack it.
        changes, limit: as the study was run with.
        licence: under which the file is passed on; it stands in its first line.

    Raises:
        DataError: there is no such run, it is not finished, or the ledger lacks some of its replies.
    """
    folder, teachers = Path(study), []
    if not folder.is_dir():
        checked, _ = load_study(folder, changes)
        folder, teachers = run_folder(checked.name, limit), _teachers(checked)
    report = read_report(folder)
    steps = {key for arm in report["arms"] for key in _chain(folder, arm)}
    with Ledger.open() as ledger:
        keys = {key for step in steps for key in Rows(folder / "steps" / step).replies()}
        if not keys:
            raise DataError(f"{str(folder)!r}: no row of this run came of a teacher's reply, so there is no cassette")
        secrets = _secrets(teachers or _teachers_kept(folder))
        return write_cassette(file, keys, ledger, study=report["study"]["name"], licence=licence, secrets=secrets)


def export_requests(
    study: str | Path | Mapping[str, Any] | Study,
    file: str | os.PathLike[str],
    *,
    changes: Sequence[str] = (),
    limit: int | None = None,
    watch: Watch | None = None,
) -> Asked:
    """Write the requests that the ledger cannot answer yet as a batch file, for any way of having them answered.

    What the ledger can answer is gone on from, so that the steps of a chain are asked for one after the other: import
    the replies and export again until nothing is left. Nothing is sent and no key is needed.

    Raises:
        UnderstudyError: as ``run`` before anything is spent; or a prompt holds a key or password.
    """
    checked, _ = load_study(study, changes)
    checked = with_labels(checked)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="understudy-"))
        workspace = stack.enter_context(Workspace(Path(folder)))
        test = load_test(workspace, limited(checked.task, limit))
        ledger = stack.enter_context(Ledger.open())
        requests = stack.enter_context(RequestFile(file, _secrets(_teachers(checked))))
        room = Classroom(workspace, checked, test, ledger, watch or Silent(), offline=True, missing=requests.add)
        lessons = stack.enter_context(room).lessons(plans_of(checked, limit))
        return Asked(Path(file), len(requests), tuple(_waiting(lessons)))


def import_cassette(
    file: str | os.PathLike[str],
    *,
    requests: str | os.PathLike[str] | None = None,
    written_by: str | None = None,
) -> Imported:
    """Take a cassette, or answers to exported requests, into the ledger; what it holds already stays as it is.

    Args:
        requests: the exported requests that ``file`` answers: it then holds OpenAI's batch output, or lines
            ``{"custom_id": ..., "reply": "text"}``.
        written_by: ``"NAME, YYYY-MM-DD"``: which language model wrote the answers outside any endpoint, and when.

    Raises:
        DataError: a line is not what it should be; nothing of the file is taken then.
    """
    if written_by and requests is None:
        raise SettingsError("--written-by is for answers to exported requests: name their file with --requests")
    with Ledger.open() as ledger:
        if requests is None:
            return import_from(file, ledger)
        return import_replies(file, requests, ledger, written_by=written_by)


def _chain(folder: Path, arm: str) -> list[str]:
    try:
        return [step["key"] for step in orjson.loads((folder / "arms" / arm / "chain.json").read_bytes())]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        raise DataError(f"{str(folder)!r} does not say which steps arm {arm!r} has; run the study again") from None


def _waiting(lessons: Sequence[Lessons]) -> Iterator[str]:
    for one in lessons:
        lacks = False
        for name, step in zip(one.arm.recipes, one.steps[1:], strict=True):
            if lacks and open_recipe(name).asks:
                yield f"{one.arm.name}: {name}"
            lacks = lacks or NOT_IN_LEDGER in step.taken.dropped


def _teachers(study: Study) -> list[tuple[str, str]]:
    """URL and name of the key's variable of every teacher."""
    return [(teacher.base_url or "", teacher.api_key_env) for arm in study.plans() for teacher in arm.teachers]


def _teachers_kept(folder: Path) -> list[tuple[str, str]]:
    """The same of the study that a run folder keeps, as far as the variables in it are set here."""
    try:
        study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
        arms = study["arms"].values()
        links = [link for arm in arms for link in arm["chain"] if isinstance(link, dict)]
        parts = [part.get(role) or {} for part in (study, *arms, *links) for role in ("teacher", "judge")]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return []  # someone edited it; it is only a record
    found = []
    for teacher in parts:
        with suppress(SettingsError):
            url = fill_variables(teacher.get("base_url") or "")
            found.append((str(url), str(teacher.get("api_key_env") or "")))
    return found


def _secrets(teachers: Sequence[tuple[str, str]]) -> Secrets:
    urls = [os.environ.get("OPENAI_BASE_URL", ""), *getproxies().values(), *(url for url, _ in teachers)]
    return Secrets.all_known(urls, [name for _, name in teachers])
