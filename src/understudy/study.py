"""A study: one question, and its arms, every override resolved and every chain checked before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from understudy.errors import SettingsError
from understudy.evaluation import RATIONALE, check_metrics
from understudy.plans import ALONE, Plan, by_itself
from understudy.recipes import RECIPES, open_recipe, recipe_settings
from understudy.settings import Settings, did_you_mean, validate
from understudy.sources import read_as
from understudy.splits import StudyTask
from understudy.students import CONTINUE, settings_model
from understudy.teachers import TeacherSettings, with_price

Equal = Literal["steps", "tokens", "words", "teacher_tokens", "usd"]


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
    """Name -> chain of recipes, or chain with overrides of task, teacher or student, and with ``continues``, the name
    of an earlier arm, where the student, or each of several, goes on from that arm's: training in stages."""
    seeds: tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...] = Field(default=(0, 1, 2), min_length=1)
    """One student is trained for each seed, in every arm."""
    equal: tuple[Equal, ...] = Field(default=("steps",), min_length=1)
    """What the arms have in common; with several, every arm is trained under each."""
    filters: dict[str, Any] = Field(default={}, max_length=0)
    """Reserved: must be empty."""
    report_to: Literal["none"] = "none"
    """Reserved: must be none."""
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
class Link:
    """One recipe of a chain, and the teacher that it asks, if it asks one."""

    recipe: str
    settings: Settings
    teacher: TeacherSettings | None
    judge: TeacherSettings | None = None
    """Who judges what the teacher wrote, where the recipe has that done."""


@dataclass(frozen=True)
class Arm:
    """One arm, resolved: everything that its lessons and its student depend on."""

    name: str
    chain: tuple[Link, ...]
    task: StudyTask
    student: Settings
    continues: str | None = None
    """The arm whose student, of the same seed, this one's starts as."""

    @property
    def teachers(self) -> tuple[TeacherSettings, ...]:
        """The teachers that its recipes ask, each once."""
        asked = [teacher for link in self.chain for teacher in (link.teacher, link.judge) if teacher]
        return tuple({teacher.canonical(): teacher for teacher in asked}.values())

    @property
    def recipes(self) -> tuple[str, ...]:
        """The names of its recipes, in order."""
        return tuple(link.recipe for link in self.chain)

    @property
    def plan(self) -> Plan:
        """What its students learn from its rows, and how they answer."""
        last = self.chain[-1]
        own = open_recipe(last.recipe).plan
        return own(last.settings, self.task) if own else by_itself(self.task)


def check_study(study: Study) -> None:
    """What one model alone cannot see.

    Raises:
        SettingsError: an arm cannot work, a metric is unknown, or a cost that arms should share is not known.
    """
    before: list[Arm] = []
    for arm in study.plans():
        _check_stage(arm, before, "base" in study.arms[arm.name].get("student", {}))
        before.append(arm)
        if not arm.task.metric_names:
            raise SettingsError(f"task.kind: there is no metric for kind: {arm.task.kind} yet")
        check_metrics(arm.task.metric_names, arm.task.kind)
        _check_reasoning(arm.task)
        for entry in sorted({"usd", "teacher_tokens"} & set(study.equal)):
            if _cost_is_unknown(arm, entry):
                raise SettingsError(
                    f"equal: {entry}: what the teacher of arm {arm.name!r} costs is not known (recorded replies have "
                    f"no cost); set teacher.price, or take {entry} out of the list"
                )


def _check_reasoning(task: StudyTask) -> None:
    """Refuse to score reasoning that the test rows have none of to compare with."""
    for metric in task.metric_names:
        has_it = all(read_as(source, task, "test").fields.rationale for source in task.sources("test"))
        if metric.startswith(RATIONALE) and not has_it:
            raise SettingsError(f"task.metrics: {metric} needs the test rows' reasoning: name task.fields.rationale")


def _check_stage(arm: Arm, before: Sequence[Arm], has_own_base: bool) -> None:
    """Refuse an arm that goes on from a student which will not be there, or which it cannot start as."""
    if arm.continues is None:
        return
    known = {one.name: one for one in before}
    where = f"arms.{arm.name}.continues"
    if arm.continues not in known:
        raise SettingsError(
            f"{where}: no arm {arm.continues!r} stands before it. {did_you_mean(arm.continues, list(known))}"
        )
    kinds = [one.student.model_dump()["kind"] for one in (arm, known[arm.continues])]
    if kinds[0] not in CONTINUE:
        raise SettingsError(
            f"{where}: a {kinds[0]} does not go on from another's student; it fits {', '.join(CONTINUE)}"
        )
    if kinds[0] != kinds[1]:
        raise SettingsError(f"{where}: the student of arm {arm.continues!r} is a {kinds[1]}, this one a {kinds[0]}")
    if ALONE not in known[arm.continues].plan.parts:
        raise SettingsError(f"{where}: arm {arm.continues!r} has several students a seed; go on from an arm with one")
    bases = [one.student.model_dump()["base"] for one in (arm, known[arm.continues])]
    if has_own_base and bases[0] != bases[1]:
        raise SettingsError(
            f"arms.{arm.name}.student.base: it starts as the student of arm {arm.continues!r}, so it has no base of "
            "its own; take out base or continues"
        )


def _cost_is_unknown(arm: Arm, entry: str) -> bool:
    return any(
        teacher.backend == "recorded" or (entry == "usd" and with_price(teacher).price is None)
        for teacher in arm.teachers
    )


def _plan(study: Study, name: str, arm: Mapping[str, Any]) -> Arm:
    where = f"arms.{name}"
    overrides = (
        _ArmValues.model_validate(arm) if isinstance(arm, _ArmValues) else validate(_ArmValues, dict(arm), where)
    )
    task = _override(study.task, overrides.task, StudyTask, f"{where}.task")
    if (task.test, task.kind, task.label_names) != (study.task.test, study.task.kind, study.task.label_names):
        raise SettingsError(
            f"{where}.task: arms are compared on one test split, one kind of task and one set of labels; "
            "remove the override"
        )
    if task.fields != study.task.fields and task.train == study.task.train:
        raise SettingsError(
            f"{where}.task.fields: the test rows are read with the study's fields; only an arm with a train file of "
            "its own may read it otherwise"
        )
    teacher = study.teacher
    if overrides.teacher:
        teacher = _another(teacher, overrides.teacher, f"{where}.teacher")
    student = {**study.student, **overrides.student}
    if "kind" not in student:
        raise SettingsError("student.kind: this key is required, e.g. kind: classifier")
    learner = validate(settings_model(student["kind"]), student, f"{where}.student" if overrides.student else "student")
    links = [_link(link, teacher, f"{where}.chain") for link in overrides.chain]
    fitted = [replace(link, settings=open_recipe(link.recipe).fitted(link.settings, learner)) for link in links]
    resolved = Arm(name=name, chain=tuple(fitted), task=task, continues=overrides.continues, student=learner)
    _check_chain(resolved, where)
    return resolved


class _ArmValues(Settings):
    chain: list[Any] = Field(min_length=1)
    continues: str | None = None
    task: dict[str, Any] = {}
    teacher: dict[str, Any] = {}
    student: dict[str, Any] = {}


def _link(link: Any, teacher: TeacherSettings | None, where: str) -> Link:
    values = {link: {}} if isinstance(link, str) else dict(link) if isinstance(link, Mapping) else {}
    own, of_judge = values.pop("teacher", {}), values.pop("judge", {})
    if len(values) != 1:
        raise SettingsError(
            f"{where}: a link is a recipe's name or {{name: {{settings}}}}, and teacher: {{...}} beside the name where "
            f"the arm's is not asked, judge: {{...}} where another one judges; got {link!r}"
        )
    ((name, values),) = values.items()
    name = str(name)
    recipe, settings = open_recipe(name, where), recipe_settings(name, values or {}, where)
    if own and not recipe.asks:
        raise SettingsError(f"{where}: recipe {name!r} asks no teacher; take its teacher: out")
    if of_judge and not recipe.judges(settings):
        raise SettingsError(f"{where}: recipe {name!r} has nothing judged with these settings; take its judge: out")
    asked = _another(teacher, own, f"{where}.teacher") if recipe.asks else None
    judge = _another(asked, of_judge, f"{where}.judge") if recipe.judges(settings) else None
    return Link(recipe=name, settings=settings, teacher=asked, judge=judge)


def _check_chain(arm: Arm, where: str) -> None:
    """Refuse a chain in which a recipe or the student would lack what it needs."""
    have = {"input"}
    if arm.task.train:
        read = [read_as(source, arm.task).fields for source in arm.task.sources("train")]
        parts = ("target", "rationale", "choices")
        have |= {"train"} | {part for part in parts if all(getattr(fields, part) for fields in read)}
    if arm.task.unlabelled:
        have.add("unlabelled")
    is_corpus = arm.task.kind == "pretraining"
    if is_corpus and not arm.task.train:
        raise SettingsError(f"{where}.chain: there is no corpus to learn from; add task.train")
    for link in arm.chain:
        name, recipe = link.recipe, open_recipe(link.recipe)
        if recipe.kinds and arm.task.kind not in recipe.kinds:
            raise SettingsError(
                f"{where}.chain: recipe {name!r} is for kind: {' or '.join(recipe.kinds)}, not for {arm.task.kind}"
            )
        if is_corpus and "target" in recipe.needs(link.settings) | recipe.gives(link.settings):
            raise SettingsError(
                f"{where}.chain: recipe {name!r} is about answers, and the texts of kind: pretraining have none; take "
                f"{' or '.join(_for_texts())}"
            )
        if recipe.plan and link is not arm.chain[-1]:
            raise SettingsError(f"{where}.chain: recipe {name!r} says how students learn and answer; put it last")
        for need in sorted(recipe.needs(link.settings) - have):
            raise SettingsError(f"{where}.chain: recipe {name!r} needs {need!r}; {_ways_out(need, arm.task)}")
        if recipe.asks and link.teacher is None:
            raise SettingsError(
                f"{where}.chain: recipe {name!r} asks a teacher, and the study names none; add teacher:"
            )
        have |= recipe.gives(link.settings)
    if "target" not in have and not is_corpus:
        raise SettingsError(
            f"{where}.chain: no row would have an answer to learn from; {_ways_out('target', arm.task)}"
        )


def _for_texts() -> list[str]:
    return [name for name in RECIPES if "pretraining" in open_recipe(name).kinds]


def _ways_out(need: str, task: StudyTask) -> str:
    read = [getattr(read_as(source, task).fields, need, None) for source in task.sources("train")]
    if any(read):  # of a mixture some have it
        lacking = ", ".join(f"task.train.{place}" for place, column in enumerate(read) if not column)
        return f"{lacking} lacks it: name its column in fields.{need} there, or take that source out"
    if need in ("unlabelled", "train"):
        return f"add task.{need}"
    if need == "target":
        return "add task.train with fields.target, or put a recipe before it that gives 'target' (answers, direct)"
    return f"name its column in task.fields.{need}, or put a recipe before it that gives {need!r}"


def _another(teacher: TeacherSettings | None, changes: Mapping[str, Any], where: str) -> TeacherSettings | None:
    """The teacher with changes. Price and name are those of one model at one place: another does not inherit them."""
    moves = any(
        key in changes and changes[key] != getattr(teacher, key, None) for key in ("backend", "model", "base_url")
    )
    return _override(teacher, changes, TeacherSettings, where, forget={"price", "name"} if moves else set())


def _override(
    settings: Settings | None,
    changes: Mapping[str, Any],
    model: type[Any],
    where: str,
    forget: AbstractSet[str] = frozenset(),
) -> Any:
    if not changes:
        return settings
    values = settings.model_dump(exclude_unset=True, exclude={*forget}) if settings else {}
    return validate(model, _merge(values, changes), where)


def _merge(values: Any, changes: Any) -> Any:
    if not (isinstance(values, Mapping) and isinstance(changes, Mapping)):
        return changes
    return {**values, **{key: _merge(values.get(key), change) for key, change in changes.items()}}
