"""Keeping keys and passwords out of everything that is shown or written."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_IN_URL = re.compile(r"(\w://)[^/@\s\"'<>]+@")
_SAFE_IN_QUERY = ("/?:@!$'()*,", "/?:@!$'()*,+=", "!$%&()*+,-./:;=?@[\\]^_`{|}~")  # what HTTP libraries leave there
_SHORTEST = 4  # a shorter secret would blot out ordinary text
_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE)S?$", re.IGNORECASE)
_LONG = 12  # characters from which a text that looks like a secret is taken for one
_NO_KEYS = frozenset(  # what servers that ask for no key are given: words of ordinary text
    ("dummy", "empty", "local", "lm-studio", "no-key", "none", "not-needed", "null", "ollama", "test", "unused")
)
_NO_SECRETS = frozenset(("api-version", "api_version", "debug", "deployment", "model", "version"))  # in a query


def _forms(value: str) -> set[str]:
    """A secret as it is, as it stands in a URL, and as it stands in JSON."""
    in_url = {quote(value, safe=safe) for safe in ("", "/", *_SAFE_IN_QUERY)}
    in_json = {json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True)}
    return {value, *in_url, *in_json, *(form.replace("/", "\\/") for form in in_json)}


class Secrets:
    """Values that must never be shown."""

    def __init__(self, values: Iterable[str | None]) -> None:
        known = {value for value in values if value and len(value) >= _SHORTEST and value.lower() not in _NO_KEYS}
        self._values = sorted({form for value in known for form in _forms(value)}, key=len, reverse=True)

    @classmethod
    def of(cls, url: str, key: str | None, proxy: str | None = None) -> Secrets:
        """The key, and what a URL and a proxy's hold besides their place: user, password, the values of a query."""
        parts = urlsplit(url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        pair = base64.b64encode(f"{user}:{password}".encode()).decode() if password or user else None
        userinfo, _, _ = parts.netloc.rpartition("@")
        values = [value for name, value in parse_qsl(parts.query) if name not in _NO_SECRETS]
        pairs = [pair.partition("=") for pair in parts.query.split("&")]  # as written: a + may be one, and no blank
        values += [form for name, _, value in pairs if name not in _NO_SECRETS for form in (value, unquote(value))]
        own = cls([key, password or user, pair, userinfo, *values])
        return cls([*own._values, *cls.of(proxy, None)._values]) if proxy else own

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
