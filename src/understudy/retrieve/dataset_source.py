"""What goes into a datastore: one dataset's source and what is known about it, and how a command line names many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import Field, field_validator, model_validator

from understudy.errors import DataError, SettingsError
from understudy.settings import fill_variables, validate
from understudy.sources import Source, selection
from understudy.sources.source import SUFFIXES, local_folder

STORE = "store.json"
OF_A_SPLIT = ("corpus", "fields", "skip", "sample", "per_label", "limit", "seed")


class DatasetSource(Source):
    """One dataset of a datastore: a file or a hub dataset, read whole. A plain string is a path."""

    description: str | None = None
    """What the dataset holds, in a sentence; left out: the hub's own description, else its name and columns."""
    labels: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Names for what stands in a column: {label: {0: entailment, 1: neutral}}, or a list counted from 0."""
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    """The columns to take; a.b is b within a, and a takes all within it. Left out: every column."""
    skip_columns: tuple[str, ...] = ()
    """Columns to leave out."""

    @field_validator("labels", mode="before")
    @classmethod
    def _names_by_text(cls, labels: Any) -> Any:
        if not isinstance(labels, Mapping):
            return labels
        listed = {column: dict(enumerate(n)) if isinstance(n, list) else n for column, n in labels.items()}
        return {
            column: {str(value): name for value, name in names.items()} if isinstance(names, Mapping) else names
            for column, names in listed.items()
        }

    @model_validator(mode="after")
    def _read_whole(self) -> DatasetSource:
        for field in OF_A_SPLIT:
            if field in self.model_fields_set:
                raise ValueError(
                    f"{field} is for the splits of a study; a datastore reads a dataset whole: take it out"
                )
        return self

    def takes(self, column: str) -> bool:
        """Whether a column, or what it lies within, is to be taken."""
        within = {column} | {column[:place] for place, sign in enumerate(column) if sign == "."}
        return (self.columns is None or bool(within & set(self.columns))) and not within & set(self.skip_columns)

    def canonical_choice(self) -> str:
        """All that decides, beside the content, what is made of the source: as canonical JSON, no path."""
        chosen = {name: getattr(self, name) for name in ("description", "labels", "columns", "skip_columns")}
        return orjson.dumps(chosen | {"source": selection(self)}, option=orjson.OPT_SORT_KEYS).decode()


def read_sources(places: Sequence[str]) -> list[DatasetSource]:
    """The sources that a command line names.

    Args:
        places: each a file; a folder, which is searched through; ``hub:NAME``; or a .yaml list of the settings of
            sources, in which a plain string is a place again and paths are relative to the list.

    Raises:
        SettingsError: a list cannot be read, or an entry of it is wrong.
        DataError: a folder holds nothing that can be read.
    """
    return [source for place in places for source in _named(place)]


def _named(place: str) -> Iterator[DatasetSource]:
    if place.startswith("hub:"):
        yield validate(DatasetSource, {"hub": place.removeprefix("hub:")}, place)
    elif place.endswith((".yaml", ".yml")):
        yield from _listed(Path(place).expanduser())
    elif Path(place).expanduser().is_dir():
        yield from _within(Path(place).expanduser())
    else:
        yield validate(DatasetSource, {"path": place}, place)


def _listed(file: Path) -> Iterator[DatasetSource]:
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: the list of sources cannot be read: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(entries, list):
        raise SettingsError(
            f"{file}: a list of sources is expected, e.g. - path: rows.jsonl; got {type(entries).__name__}"
        )
    for number, entry in enumerate(entries, 1):
        filled = fill_variables(entry, f"{file}: source {number}")
        if isinstance(filled, str):
            yield from _named(filled if filled.startswith("hub:") else str(file.parent / Path(filled).expanduser()))
        elif not isinstance(filled, dict):
            raise SettingsError(f"{file}: source {number}: a path, or a mapping with path or hub; got {filled!r}")
        else:
            yield validate(DatasetSource, _anchored(filled, file.parent), f"{file}: source {number}")


def _anchored(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    path, hub = entry.get("path"), entry.get("hub")
    if isinstance(path, str) and path:
        return entry | {"path": str(folder / Path(path).expanduser())}
    if isinstance(hub, str) and hub.startswith("."):
        return entry | {"hub": str((folder / hub).resolve())}
    return entry


def _within(folder: Path) -> Iterator[DatasetSource]:
    """A source for each file of a known kind, and for each split of a saved dataset, but hidden ones and datastores."""
    empty = True
    for inside, folders, files in os.walk(folder):
        if STORE in files:  # a datastore, not what one is made of
            folders.clear()
            continue
        saved = list(_saved(Path(inside)))
        folders[:] = [] if saved else sorted(name for name in folders if not name.startswith("."))
        known = [] if saved else [str(Path(inside, name)) for name in sorted(files) if _is_known(name)]
        for source in (*saved, *(DatasetSource(path=path) for path in known)):
            yield _renamed(source, folder)
            empty = False
    if empty:
        raise DataError(
            f"{folder}: nothing in this folder can be read. Known: {', '.join(SUFFIXES)}, each also with .gz, and "
            "folders that the datasets package saved"
        )


def _is_known(name: str) -> bool:
    return not name.startswith(".") and Path(name.removesuffix(".gz")).suffix.lower() in SUFFIXES


def _saved(folder: Path) -> Iterator[DatasetSource]:
    if (folder / "state.json").is_file():
        yield DatasetSource(hub=str(folder))
    elif (folder / "dataset_dict.json").is_file():
        for split in sorted(entry.name for entry in folder.iterdir() if (entry / "state.json").is_file()):
            yield DatasetSource(hub=str(folder), split=split)


def _renamed(source: DatasetSource, folder: Path) -> DatasetSource:
    """A source deep within the folder is named by its whole way from there, so that no two are called the same."""
    place = local_folder(source) or Path(source.path or "").parent
    deep = place.relative_to(folder).parts[:-1]
    return source.model_copy(update={"name": "/".join((*deep, source.dataset))}) if deep else source
