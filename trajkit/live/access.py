"""Who may ask a server: the token, the names that it goes by, and the sites whose pages may ask too."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from trajkit.errors import InputError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Access:
    """token: what requests must bear, None for nothing. hosts: names that the server goes by, as `Host` has them but
    for the port, which forwarding may change. any_address: whether it goes by any IP address, too. origins: other
    sites whose pages may ask, such as https://example.org."""

    token: str | None = None
    hosts: frozenset[str] = frozenset(LOOPBACK)
    any_address: bool = False
    origins: tuple[str, ...] = ()

    @classmethod
    def at(cls, host: str, token: str | None = None, hosts: Sequence[str] = (), origins: Sequence[str] = ()) -> Access:
        """Of a server that listens at `host`. hosts, origins: further ones.

        Raises InputError for a host other than this machine without a token, a token that no header can bear, and what
        is no name or no origin.
        """
        if host not in LOOPBACK and not token:
            raise InputError(f"--host {host} lets other machines in; set --token, which they must then bear.")
        if token and not (token.isascii() and token.isprintable() and " " not in token):
            raise InputError("a token is made of letters, digits and signs, without spaces; choose another one.")
        for name in hosts:
            if name_of(name) != name.lower():
                raise InputError(f"--allow-host takes a name such as gpu.example.org, without a port; got {name!r}.")
        named = frozenset(name.lower() for name in (*LOOPBACK, host, *hosts))
        return cls(token or None, named, host in _ANYWHERE, tuple(map(_origin, origins)))

    def goes_by(self, name: str) -> bool:
        """Whether `name`, a `Host` without its port, is one of the server's."""
        return name in self.hosts or (self.any_address and _is_address(name))

    def link(self, address: str) -> str:
        """Where a browser opens the page of the server at `address`, http://….."""
        return f"{address}/?token={quote(self.token, safe='')}" if self.token else address


def name_of(host: str) -> str | None:
    """The name in a `Host` header, in small letters, an IPv6 address without its brackets; None where there is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and "@" not in host else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _origin(said: str) -> str:
    """As a browser says it. Raises InputError."""
    parts = urlsplit(said)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc or parts.path not in ("", "/"):
        raise InputError(f"--allow-origin takes a scheme and a host such as https://example.org; got {said!r}.")
    return f"{parts.scheme}://{parts.netloc.lower()}"
