"""The study file: one YAML file, one question. Read, checked and resolved here, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from understudy.errors import SettingsError
from understudy.evaluation import check_metrics
from understudy.recipes import open_recipe, recipe_settings
from understudy.settings import Settings, fill_variables, validate
from understudy.sources import Source
from understudy.students import settings_model
from understudy.task import Task
from understudy.teachers import TeacherSettings

Equal = Literal["steps", "tokens", "words", "teacher_tokens", "usd"]


class StudyTask(Task):
    """A task with its splits."""

    train: Source | None = None
    """The gold rows: what the chains start from and prompts take their shots from."""
    unlabelled: Source | None = None
    """Rows that the teacher may answer; an answer that stands in them is never looked at."""
    test: Source
    """The locked test split."""


class Limits(Settings):
    """The most that a study may spend on its teachers, over all its runs in one folder; null is no limit."""

    usd: float | None = Field(default=None, ge=0)
    """US dollars; every teacher then needs its price and sampling.max_tokens."""
    tokens: int | None = Field(default=None, ge=0)
    """Tokens of prompts and answers; every teacher then needs sampling.max_tokens."""
    requests: int | None = Field(default=None, ge=0)
    """Requests, attempts that failed counted."""


class Study(Settings):
    """A study as it is written. ``study.plans()`` gives its arms, resolved."""

    name: str = Field(pattern=r"^[\w][\w.-]*$")
    """The name of the run folder and of the report."""
    task: StudyTask
    """What is to be learnt."""
    teacher: TeacherSettings | None = None
    """Who answers; not needed where every arm is [gold]."""
    budget: Limits = Limits()
    """What the whole study may spend on the teacher."""
    student: dict[str, Any]
    """Who learns: ``kind`` and the settings of that kind."""
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    """Name -> chain of recipes, or chain with overrides of task, teacher or student."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """One student is trained for each seed, in every arm."""
    equal: tuple[Equal, ...] = ("steps",)
    """What the arms have in common; with several, every arm is trained under each."""
    filters: dict[str, Any] = {}
    """Reserved."""
    report_to: Literal["none"] = "none"
    """Where training curves are sent."""
    notes: tuple[str, ...] = ()
    """Sentences that the report must carry, e.g. who wrote the data."""

    @field_validator("seeds", "equal")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a value stands twice in the list")
        return values

    def plans(self) -> list[Arm]:
        """Every arm with its overrides applied.

        Raises:
            SettingsError: an arm names an unknown recipe, its chain cannot work, or its overrides do not fit.
        """
        return [_plan(self, name, arm) for name, arm in self.arms.items()]


@dataclass(frozen=True)
class Arm:
    """One arm, resolved: everything that its lessons and its student depend on."""

    name: str
    chain: tuple[tuple[str, Settings], ...]
    task: StudyTask
    teacher: TeacherSettings | None
    student: Settings


def load_study(
    study: str | Path | Mapping[str, Any] | Study, changes: Sequence[str] = ()
) -> tuple[Study, dict[str, Any]]:
    """Read a study from a YAML file, a mapping or a Study.

    Args:
        changes: ``"a.b=value"`` each, as ``--set`` gives them; the value is YAML.

    Returns:
        The checked study, and the plain values as written: variables stay unfilled, so no secret is in them.

    Raises:
        SettingsError: one line a problem, with the field.
    """
    if isinstance(study, Study):
        return study, study.model_dump(mode="json", exclude_unset=True)
    where, folder = ("study", Path()) if isinstance(study, Mapping) else (str(study), Path(study).parent)
    written = deepcopy(dict(study)) if isinstance(study, Mapping) else _read_yaml(Path(study))
    written["arms"] = _arms(written.get("arms"), where)
    for change in changes:
        _set(written, change)
    written["arms"] = _arms(written["arms"], where)
    try:
        checked = validate(Study, _anchor(fill_variables(written), folder))
        for arm in checked.plans():
            check_metrics(arm.task.metric_names, arm.task.kind)
    except SettingsError as error:
        raise SettingsError("\n".join(f"{where}: {line}" for line in str(error).splitlines())) from None
    return checked, written


def _plan(study: Study, name: str, arm: Mapping[str, Any]) -> Arm:
    where = f"arms.{name}"
    overrides = (
        _ArmValues.model_validate(arm) if isinstance(arm, _ArmValues) else validate(_ArmValues, dict(arm), where)
    )
    task = _override(study.task, overrides.task, StudyTask, f"{where}.task")
    if task.test != study.task.test or task.kind != study.task.kind:
        raise SettingsError(
            f"{where}.task: arms are compared on one test split and one kind of task; remove the override"
        )
    teacher = study.teacher
    if overrides.teacher:
        teacher = _override(teacher, overrides.teacher, TeacherSettings, f"{where}.teacher")
    student = {**study.student, **overrides.student}
    if "kind" not in student:
        raise SettingsError("student.kind: this key is required, e.g. kind: classifier")
    resolved = Arm(
        name=name,
        chain=tuple(_link(link, f"{where}.chain") for link in overrides.chain),
        task=task,
        teacher=teacher,
        student=validate(
            settings_model(student["kind"]), student, f"{where}.student" if overrides.student else "student"
        ),
    )
    _check_chain(resolved, where)
    return resolved


class _ArmValues(Settings):
    chain: list[Any] = Field(min_length=1)
    task: dict[str, Any] = {}
    teacher: dict[str, Any] = {}
    student: dict[str, Any] = {}


def _arms(arms: Any, where: str) -> Any:
    """Every arm in its long form: ``{chain: [...]}``."""
    if not isinstance(arms, Mapping):
        return arms
    for name in arms:
        if not str(name).strip() or "/" in str(name) or str(name).startswith("."):
            raise SettingsError(
                f"{where}: arms: {name!r} cannot be the name of a folder; use letters, digits and spaces"
            )
    return {str(name): {"chain": arm} if isinstance(arm, list) else arm for name, arm in arms.items()}


def _link(link: Any, where: str) -> tuple[str, Settings]:
    if isinstance(link, str):
        return link, recipe_settings(link, {}, where)
    if isinstance(link, Mapping) and len(link) == 1:
        ((name, values),) = link.items()
        return str(name), recipe_settings(str(name), values or {}, where)
    raise SettingsError(f"{where}: a link is a recipe's name or {{name: {{settings}}}}, got {link!r}")


def _check_chain(arm: Arm, where: str) -> None:
    """Refuse a chain in which a recipe or the student would lack what it needs."""
    have = {"input"}
    if arm.task.train:
        have |= {"train"} | {part for part in ("target", "rationale", "choices") if getattr(arm.task.fields, part)}
    if arm.task.unlabelled:
        have.add("unlabelled")
    for name, settings in arm.chain:
        recipe = open_recipe(name)
        for need in sorted(recipe.needs - have):
            raise SettingsError(f"{where}.chain: recipe {name!r} needs {need!r}; {_ways_out(need)}")
        if recipe.asks and arm.teacher is None:
            raise SettingsError(
                f"{where}.chain: recipe {name!r} asks a teacher, and the study names none; add teacher:"
            )
        have |= recipe.gives(settings)
    if "target" not in have:
        raise SettingsError(f"{where}.chain: no row would have an answer to learn from; {_ways_out('target')}")


def _ways_out(need: str) -> str:
    if need in ("unlabelled", "train"):
        return f"add task.{need}"
    if need == "target":
        return "add task.train with fields.target, or put a recipe before it that gives 'target' (answers, direct)"
    return f"name its column in task.fields.{need}, or put a recipe before it that gives {need!r}"


def _override(settings: Settings | None, changes: Mapping[str, Any], model: type[Any], where: str) -> Any:
    if not changes:
        return settings
    values = settings.model_dump(mode="json", exclude_unset=True) if settings else {}
    return validate(model, _merge(values, changes), where)


def _merge(values: Any, changes: Any) -> Any:
    if not (isinstance(values, Mapping) and isinstance(changes, Mapping)):
        return changes
    return {**values, **{key: _merge(values.get(key), change) for key, change in changes.items()}}


def _set(values: dict[str, Any], change: str) -> None:
    path, sign, text = change.partition("=")
    if not sign or not path:
        raise SettingsError(f"--set {change!r}: write it as key.subkey=value")
    *parents, last = path.split(".")
    for key in parents:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise SettingsError(f"--set {change!r}: {key!r} holds {inner!r} and has no keys below it")
        values = inner
    values[last] = yaml.safe_load(text)


def _anchor(values: Any, folder: Path, key: str = "") -> Any:
    """Paths in a study file are relative to the file."""
    if isinstance(values, dict):
        return {k: _anchor(v, folder, k) for k, v in values.items()}
    if isinstance(values, list):
        return [_anchor(v, folder, key) for v in values]
    is_path = key == "path" or key in ("train", "unlabelled", "test")
    if is_path and isinstance(values, str) and not Path(values).is_absolute():
        return str(folder / values)
    if key in ("base", "model") and isinstance(values, str) and values.startswith("."):
        return str(folder / values)
    return values


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that stands twice is a mistake, not a silent loss."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (str, int)) and key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: the key {key!r} stands twice")
            seen.add(key if isinstance(key, (str, int)) else id(key_node))
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise SettingsError(f"there is no study file {str(path)!r}")
    if path.is_dir():
        raise SettingsError(f"{str(path)!r} is a folder; name the study file, e.g. {str(path / 'study.yaml')!r}")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)  # noqa: S506  a SafeLoader, stricter
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: a study is a mapping with name, task, student and arms; got {values!r}")
    return values
