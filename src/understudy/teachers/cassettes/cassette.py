"""A cassette: the replies that a study used, as one JSONL file, with which anyone runs it again for nothing.

The first line says what it is, who wrote the replies and under whose terms; then one line a reply, or a request that
was refused for good, in the order of the ledger's keys. The same replies make the same file wherever they are exported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from understudy.errors import DataError
from understudy.teachers.backends.redact import Secrets
from understudy.teachers.cassettes.jsonl import Lines, whole_file
from understudy.teachers.ledger import Entry, Ledger
from understudy.teachers.ledger_file import Refusal
from understudy.teachers.request import Reply, Request
from understudy.teachers.settings import Price

FORM = 1
"""The number of this form of the file, which its first line holds."""

_TERMS = {
    r"chatgpt|gpt-\d|o\d(-|$)": "https://openai.com/policies/services-agreement/",
    r"claude": "https://www.anthropic.com/legal/commercial-terms",
    r"gemini": "https://ai.google.dev/gemini-api/terms",
    r"gemma": "https://ai.google.dev/gemma/terms",
    r"(mistral|ministral|magistral|codestral).*-latest": "https://mistral.ai/terms",
    r"deepseek-(chat|reasoner)": "https://cdn.deepseek.com/policies/en-US/deepseek-open-platform-terms-of-service.html",
}
_NOT_KNOWN = "see the provider"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    replies: int
    redacted: int  # replies of which a secret was taken out
    refused: int = 0  # requests that have no reply, because they were refused for good


@dataclass(frozen=True, slots=True)
class Imported:
    """What was read, and what of it the ledger did not hold before."""

    path: Path
    replies: int
    new: int
    doubles: int = 0  # lines whose key stood before
    failed: int = 0  # lines that say that there is no answer
    refused: int = 0  # requests that were refused for good
    promised: int | None = None  # replies, by the first line
    is_cut: bool = False  # the file ends within a line


def write_cassette(
    path: str | os.PathLike[str],
    keys: Iterable[str],
    ledger: Ledger,
    *,
    study: str,
    licence: str | None = None,
    secrets: Secrets | None = None,
) -> Exported:
    """Write the replies under ``keys``, or how the requests were refused, into a new file.

    Only the keys are held in memory.

    Args:
        study: the name of the study that used them.
        licence: under which the file is passed on.
        secrets: what may not stand in it.

    Raises:
        DataError: the ledger lacks some of the replies, or a prompt holds a secret, so that the reply could not be
            found again without it.
        WorkspaceError: the file cannot be written.
    """
    place, ordered, secrets = Path(path), sorted(set(keys)), secrets or Secrets([])
    header = _header(ordered, ledger, study, licence)
    redacted = 0
    with whole_file(place) as file:
        file.write(orjson.dumps(header) + b"\n")
        for entry in _entries(ordered, ledger):
            content = entry.content if isinstance(entry, Refusal) else entry.request.content()
            if secrets.found_in(content.decode()):
                raise DataError(
                    f"the prompt of reply {entry.key} holds a key or password that this machine knows; take it out of "
                    "the rows and run the study again. Nothing was written"
                )
            if isinstance(entry, Refusal):
                file.write(_refusal_line(entry, secrets))
                continue
            reply = _redacted(entry.reply, secrets)
            redacted += reply != entry.reply
            file.write(_line(entry, content, reply))
    return Exported(place, header["replies"], redacted, header.get("refused", 0))


def import_cassette(path: str | os.PathLike[str], ledger: Ledger) -> Imported:
    """Take the replies of a cassette into a ledger; replies to the same requests that are there already stay.

    The file is read twice: nothing of one that holds a wrong line is taken.

    Raises:
        DataError: the file is no cassette, is of a newer form, or one of its lines is not what was exported.
    """
    cassette = Cassette(path)
    for _ in cassette:
        pass
    new = ledger.add(cassette)
    return Imported(
        path=Path(path),
        replies=cassette.replies,
        new=new,
        doubles=cassette.doubles,
        refused=cassette.refused,
        promised=cassette.header.get("replies"),
        is_cut=cassette.is_cut,
    )


class Cassette:
    """A file of replies, read as a stream: a new iteration reads it anew.

    Attributes:
        header: the first line.
        replies, refused, doubles, is_cut: of the last iteration, as in ``Imported``.

    Raises:
        DataError: the file is no cassette, or of a newer form; while iterating, a line is not what was exported.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lines = Lines(path)
        self.header = next((value for _, value in self._lines), {})
        self.replies = self.refused = self.doubles = 0
        form = self.header.get("cassette")
        if not isinstance(form, int):
            raise DataError(f'{self._lines.path}:1: this is no cassette: its first line is not {{"cassette": 1, ...}}')
        if form > FORM:
            raise DataError(
                f"{self._lines.path}:1: the cassette is of form {form}, this program knows {FORM}; update understudy"
            )

    @property
    def is_cut(self) -> bool:
        """Whether the file ends within a line."""
        return self._lines.is_cut

    def __iter__(self) -> Iterator[Entry | Refusal]:
        self.replies = self.refused = self.doubles = 0
        seen = set[str]()
        for number, line in islice(self._lines, 1, None):
            entry = _entry(line, f"{self._lines.path}:{number}")
            if entry.key in seen:
                self.doubles += 1
                continue
            seen.add(entry.key)
            self.refused += isinstance(entry, Refusal)
            self.replies += isinstance(entry, Entry)
            yield entry


def terms_of(model: str) -> str:
    """Where the terms stand under which a model's replies come, as far as its name tells."""
    name = model.casefold().rpartition("/")[2]
    return next((url for pattern, url in _TERMS.items() if re.match(pattern, name)), _NOT_KNOWN)


def _header(keys: list[str], ledger: Ledger, study: str, licence: str | None) -> dict[str, Any]:
    writers, newest, refused = set[str](), 0.0, 0
    for entry in _entries(keys, ledger):
        newest = max(newest, entry.created or 0.0)
        if isinstance(entry, Refusal):
            refused += 1
        else:
            writers.add(entry.reply.model or entry.request.model or entry.request.teacher)
    header = {
        "cassette": FORM,
        "study": study,
        "written_by": sorted(writers),
        "created": _time(newest),
        "replies": len(keys) - refused,
        "terms": {writer: terms_of(writer) for writer in sorted(writers)},
    }
    return header | ({"refused": refused} if refused else {}) | ({"licence": licence} if licence else {})


def _entries(keys: list[str], ledger: Ledger) -> Iterator[Entry | Refusal]:
    missing = 0
    for key in keys:
        if entry := ledger.get(key) or ledger.refusal(key):
            yield entry
        else:
            missing += 1
    if missing:
        raise DataError(
            f"{missing:,} of {len(keys):,} replies are not in the ledger {str(ledger.path)!r}; export where the study "
            "was run, or run it again"
        )


def _redacted(reply: Reply, secrets: Secrets) -> Reply:
    return replace(
        reply,
        text=secrets.redact(reply.text),
        finish_reason=secrets.redact(reply.finish_reason),
        model=secrets.redact(reply.model),
        raw=secrets.redact(reply.raw.decode()).encode(),
    )


def _line(entry: Entry, content: bytes, reply: Reply) -> bytes:
    line = {
        "key": entry.key,
        "request": orjson.Fragment(content),
        "reply": asdict(reply) | {"raw": _raw(reply.raw)},
        "price": entry.price and entry.price.model_dump(mode="json", exclude_none=True),
        "created": _time(entry.created),
    }
    return orjson.dumps(line) + b"\n"


def _refusal_line(refusal: Refusal, secrets: Secrets) -> bytes:
    line = {
        "key": refusal.key,
        "request": orjson.Fragment(refusal.content),
        "refused": {"reason": refusal.reason, "detail": secrets.redact(refusal.detail)},
        "created": _time(refusal.created or 0.0),
    }
    return orjson.dumps(line) + b"\n"


def _raw(raw: bytes) -> Any:
    """What else the endpoint sent, to be read by a person; ``None`` where there is nothing."""
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return raw.decode()


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


_REQUEST, _REPLY = TypeAdapter(Request), TypeAdapter(Reply)


def _entry(line: dict[str, Any], where: str) -> Entry | Refusal:
    """The reply in one line, or how a request was refused.

    Raises:
        DataError: it is not what was exported.
    """
    try:
        key, request = line["key"], _REQUEST.validate_python(line["request"])
        created = datetime.fromisoformat(line["created"]).timestamp()
        if refused := line.get("refused"):
            reason, detail = str(refused["reason"]), str(refused["detail"])
            entry = Refusal(key, request.content(), request.teacher, reason, detail, created)
        else:
            raw = line["reply"].get("raw")
            reply = {**line["reply"], "raw": b"" if raw is None else orjson.dumps(raw)}
            price = Price.model_validate(line["price"]) if line.get("price") else None
            entry = Entry(key, request, _REPLY.validate_python(reply), price, created)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"]))
        raise DataError(f"{where}: {place}: {problem['msg']}; get the file again") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where}: this is no line of a cassette ({error!r}); get the file again") from None
    if request.key != entry.key:
        raise DataError(
            f"{where}: the key {entry.key!r} does not belong to the request, so one of the two was changed; get the "
            "file again. Nothing of it was taken"
        )
    return entry
