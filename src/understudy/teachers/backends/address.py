"""Where an endpoint is and how one is let in, with everything secret kept to itself."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from urllib.parse import SplitResult, unquote, urlencode, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from understudy.errors import SettingsError
from understudy.teachers.backends.http import Http, is_url
from understudy.teachers.backends.redact import Secrets
from understudy.teachers.settings import TeacherSettings, has_port, public_url

OPENAI_URL = "https://api.openai.com/v1"


class Address:
    """An endpoint's URL and key. Its ``repr`` and ``shown`` hold neither password nor key."""

    def __init__(self, settings: TeacherSettings) -> None:
        url = settings.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        self.shown = public_url(url)
        try:
            self._parts = urlsplit(url)
            is_one = has_port(self._parts) and is_url(self.at(""))
        except ValueError:
            is_one = False
        if not is_one:
            raise SettingsError(
                f"teacher.base_url: {self.shown!r} is no address; write e.g. http://localhost:8000/v1, "
                "and signs in a password as in any URL, / as %2F"
            )
        self._key_name = settings.api_key_env
        # copying a key often brings a line end with it
        self._key = os.environ.get(settings.api_key_env, "").strip() or None
        self._proxy = _proxy_for(self._parts)
        self.secrets = Secrets.of(url, self._key, self._proxy)

    def __repr__(self) -> str:
        return f"Address({self.shown!r})"

    @property
    def endpoint(self) -> str:
        """URL and key: what two teachers share if they share their endpoint. Secret."""
        return f"{self._parts.geturl()} {self._key}"

    def at(self, path: str, **query: str) -> str:
        """The URL of one call, without user and password, which go into a header. Secret: the query may hold a key."""
        parts = self._parts
        host = parts.netloc.rpartition("@")[2]
        asked = "&".join(filter(None, [parts.query, urlencode(query)]))
        return urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/{path}", asked, ""))

    def check_key(self) -> None:
        """See that there is something to be let in with.

        Raises:
            SettingsError: there is not, and the endpoint is not on this machine or network; or it is no key.
        """
        if self._key and not re.fullmatch(r"[!-~]+", self._key):  # it would not fit into a header
            raise SettingsError(f"what {self._key_name} holds is no key (it has blanks or line ends); export it again")
        if not (self._key or self._parts.username or self._parts.query or self._is_near()):
            raise SettingsError(f"{self.shown} needs a key, and the variable is empty; {self.how_to_set_key}")

    @property
    def has_key(self) -> bool:
        """Whether the variable holds something."""
        return self._key is not None

    @property
    def how_to_set_key(self) -> str:
        """What to do about a missing or wrong key."""
        return f"export {self._key_name}=... and run again, or name another variable in teacher.api_key_env"

    def http(self, timeout_s: float, connect_timeout_s: float = 10.0, stall_timeout_s: float | None = None) -> Http:
        """A pool of connections."""
        try:
            return Http(
                self._headers(),
                proxy=self._proxy,
                timeout_s=timeout_s,
                connect_timeout_s=connect_timeout_s,
                stall_timeout_s=stall_timeout_s,
            )
        except ValueError:
            raise SettingsError(
                f"the proxy of the environment, {public_url(self._proxy or '')!r}, is no address of an HTTP proxy; "
                "write e.g. HTTPS_PROXY=http://proxy:3128, and signs in a password as in any URL, / as %2F"
            ) from None

    def _headers(self) -> dict[str, str]:
        headers = {}
        if self._parts.username:
            pair = f"{unquote(self._parts.username)}:{unquote(self._parts.password or '')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        elif self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    def _is_near(self) -> bool:
        host = self._parts.hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(host).is_private  # loopback too
        except ValueError:
            return False


def _proxy_for(parts: SplitResult) -> str | None:
    """The proxy that the environment names for a place."""
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
