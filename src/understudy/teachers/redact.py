"""Keeping keys and passwords out of everything that is shown or written."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_IN_URL = re.compile(r"(\w://)[^/@\s\"'<>]+@")
_SHORTEST = 4  # a shorter secret would blot out ordinary text
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)S?$", re.IGNORECASE)
_LONG = 12  # characters from which a text that looks like a secret is taken for one


class Secrets:
    """Values that must never be shown."""

    def __init__(self, values: Iterable[str | None]) -> None:
        known = {value for value in values if value and len(value) >= _SHORTEST}
        known |= {form for value in known for form in (quote(value, safe=""), value.replace("/", "\\/"))}
        self._values = sorted(known, key=len, reverse=True)

    @classmethod
    def of(cls, url: str, key: str | None) -> Secrets:
        """The key, and what a URL holds besides its place: user, password and the values of its query."""
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        pair = base64.b64encode(f"{user}:{password}".encode()).decode() if password else None
        userinfo, _, _ = parts.netloc.rpartition("@")
        values = [value for _, value in parse_qsl(parts.query)]
        return cls([key, password or user, pair, userinfo, *values])

    @classmethod
    def all_known(cls, urls: Iterable[str] = (), variables: Iterable[str] = ()) -> Secrets:
        """What these URLs and environment variables hold, and every variable whose name says that it is secret."""
        values = [os.environ.get(name, "").strip() for name in variables]
        values += [value.strip() for name, value in os.environ.items()
                   if _SECRET_NAME.search(name) and len(value.strip()) >= _LONG]  # fmt: skip
        for url in urls:
            values += cls.of(url, None)._values
        return cls(values)

    def found_in(self, text: str) -> bool:
        """Whether one of the values stands in the text; short ones may stand there by chance."""
        return any(value in text for value in self._values if len(value) >= _LONG)

    def blot(self, text: str) -> str:
        """``text`` with every secret replaced by ``***``: for what a teacher says, which is its own otherwise."""
        for value in self._values:
            if value in text:
                text = text.replace(value, "***")
        return text

    def redact(self, text: str) -> str:
        """``text`` with every secret, and every password in a URL, replaced by ``***``."""
        return _IN_URL.sub(r"\1***@", self.blot(text))
