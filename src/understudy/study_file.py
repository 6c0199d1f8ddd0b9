"""The study file: one YAML file, one question, read and checked; the same for a mapping or a Study in Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from understudy.errors import SettingsError
from understudy.recipes import Recipe, open_recipe
from understudy.settings import fill_variables, validate, without_passwords
from understudy.splits import SPLITS
from understudy.study import Study, check_study


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
    where, folder = (str(study), Path(study).parent) if isinstance(study, (str, Path)) else ("study", Path())
    try:
        written = _written(study)
        written["arms"] = _arms(written.get("arms"), where)
        for change in changes:
            _set(written, change)
        written["arms"] = _arms(written["arms"], where)
    except SettingsError as error:
        raise SettingsError(without_passwords(str(error))) from None
    try:
        checked = validate(Study, _anchored(fill_variables(written), folder))
        check_study(checked)
    except SettingsError as error:
        lines = without_passwords(str(error)).splitlines()
        raise SettingsError("\n".join(f"{where}: {line}" for line in lines)) from None
    return checked, _without_passwords(written)


def _written(study: str | Path | Mapping[str, Any] | Study) -> dict[str, Any]:
    if isinstance(study, Study):
        return study.model_dump(exclude_unset=True)
    return deepcopy(dict(study)) if isinstance(study, Mapping) else _read_yaml(Path(study))


def _without_passwords(values: Any) -> Any:
    """The study as it may be written down: no password in a URL, no query in ``base_url``; variables stay unfilled."""
    if isinstance(values, Mapping):
        cut = {key: value.partition("?")[0] for key, value in values.items() if key == "base_url" and value}
        return {key: _without_passwords(value) for key, value in (dict(values) | cut).items()}
    if isinstance(values, (list, tuple)):
        return [_without_passwords(value) for value in values]
    return without_passwords(values) if isinstance(values, str) else values


def _arms(arms: Any, where: str) -> Any:
    """Every arm in its long form: ``{chain: [...]}``."""
    if arms is None:
        return None  # said to be missing later, with everything else
    if not isinstance(arms, Mapping):
        raise SettingsError(f"{where}: arms: a mapping of names to chains is expected, got {arms!r}")
    for name in arms:
        text = str(name)
        if not text.strip() or "/" in text or text.startswith(".") or len(text) > 100 or not text.isprintable():
            raise SettingsError(
                f"{where}: arms: {name!r} cannot be the name of a folder; use letters, digits and spaces"
            )
    return {str(name): {"chain": arm} if isinstance(arm, list) else arm for name, arm in arms.items()}


def _set(values: dict[str, Any], change: str) -> None:
    path, sign, text = change.partition("=")
    if not sign or not path:
        raise SettingsError(f"--set {change!r}: write it as key.subkey=value")
    *parents, last = path.split(".")
    inside: Any = values
    for key, below in pairwise((*parents, last)):
        inner = inside[int(key)] if isinstance(inside, list) else inside.setdefault(key, {})
        if isinstance(inner, str) and isinstance(inside, dict) and key in SPLITS:  # a source in its short form
            inner = inside[key] = {"path": inner}
        if isinstance(inner, list) and not (below.isdecimal() and int(below) < len(inner)):
            raise SettingsError(f"--set {change!r}: {key!r} is a list of {len(inner)}: say which by its number from 0")
        if not isinstance(inner, (dict, list)):
            raise SettingsError(f"--set {change!r}: {key!r} holds {inner!r} and has no keys below it")
        inside = inner
    try:
        inside[int(last) if isinstance(inside, list) else last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {change!r}: the value is no YAML: {' '.join(str(error).split())}") from None


def _anchored(study: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths in a study file are relative to the file: those of sources, replies, local models and recipes."""

    def anchor(path: Any) -> Any:
        is_relative = isinstance(path, str) and path and not Path(path).expanduser().is_absolute()
        return str(folder / path) if is_relative else path

    def local(name: str) -> str:
        return str((folder / name).resolve())  # with its "./" gone a relative folder would look like a hub id

    def within(values: Any, key: str, change: Callable[[Any], Any]) -> None:
        if isinstance(values, dict) and values.get(key) is not None:
            values[key] = change(values[key])

    def source(given: Any) -> Any:
        if not isinstance(given, dict):
            return anchor(given)
        changes = {"path": anchor, "hub": model, "corpus": lambda paths: one_or_many(paths, anchor)}
        return {k: changes[k](v) if k in changes else v for k, v in given.items()}

    def one_or_many(given: Any, change: Callable[[Any], Any] = source) -> Any:
        return [*map(change, given)] if isinstance(given, list) else change(given)

    def model(name: Any) -> Any:
        return local(name) if isinstance(name, str) and name.startswith(".") else name

    for part in (study, *(arm for arm in (study.get("arms") or {}).values() if isinstance(arm, dict))):
        for split in SPLITS:
            within(part.get("task"), split, one_or_many)
        within(part.get("teacher"), "replies", one_or_many)
        within(part.get("teacher"), "model", model)
        within(part.get("student"), "base", model)
        chain = part.get("chain")
        for link in chain if isinstance(chain, list) else ():
            for role in ("teacher", "judge"):
                teacher = link.get(role) if isinstance(link, dict) else None
                within(teacher, "replies", one_or_many)
                within(teacher, "model", model)
            for name, settings in link.items() if isinstance(link, dict) else ():
                recipe = _recipe(name)
                for setting in recipe.paths if recipe else ():
                    within(settings, setting, anchor)
                for setting in recipe.students if recipe else ():
                    within(settings.get(setting) if isinstance(settings, dict) else None, "base", model)
    return study


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


def _recipe(name: Any) -> Recipe | None:
    try:
        return open_recipe(str(name))
    except SettingsError:  # which is said when the arm is checked
        return None


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
