"""Requests that a web page of another site may have made.

Without keys, every caller is an admin, and a browser on the same machine reaches the gateway
for any page that it shows: directly, or under a name that the page's owner points at 127.0.0.1.
Such requests are refused while no key exists. A key is proof enough: no such page has it.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# What a page may read of an answer beside its body.
_EXPOSED_HEADERS = (
    "retry-after", "server-timing", "x-request-id", "x-weft-artifact", "x-weft-digest",
    "x-weft-ingredients", *(
        f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset")
        for kind in ("requests", "tokens")
    ),
)  # fmt: skip
_OWN_SITES = ("", "same-origin", "none")  # of Sec-Fetch-Site; none: the address bar


class HostRefused(Exception):
    """The request names a host that this server does not answer for."""

    def __init__(self, host: str) -> None:
        super().__init__(
            f"This server does not answer for the host {host!r:.100}. Call it by an address of "
            "this machine, or add the host to WEFT_ALLOWED_HOSTS."
        )


class CrossSiteRefused(Exception):
    """The request comes from a web page of another site, and no key protects the server."""

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"Web pages of other sites ({origin!r:.100}) cannot use a server that has no keys. "
            "Create a key with `weft keys create NAME --role admin --all-namespaces`."
        )


def check_host(headers: Headers, allowed: Sequence[str], *, has_keys: bool) -> None:
    """Check the host that a request names: one of `allowed`, or a loopback name without keys.

    Raises:
        HostRefused: it is another one.
    """
    host = _host_name(headers.get("host", ""))
    if allowed:
        known = any(_matches(host, pattern.lower()) for pattern in allowed)
    else:
        known = has_keys or is_loopback(host)
    if not known:
        raise HostRefused(host)


class AllowOrigins(CORSMiddleware):
    """Middleware that lets pages of some origins read answers (CORS); without any, it does nothing.

    A page sends its key in a header, never a cookie, so that an origin alone proves nothing.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app, allow_origins=origins, allow_methods=_METHODS, allow_headers=["*"],
            expose_headers=_EXPOSED_HEADERS,
        )  # fmt: skip
        self._plain = None if origins else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or pass the request on and add the headers to its answer."""
        if self._plain is not None:
            await self._plain(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def checked_origin(text: str) -> str:
    """Return an origin as browsers send it, or `*`.

    Raises:
        ValueError: it has a path or capital letters, or lacks its scheme.
    """
    parts = urlsplit(text)
    origin = f"{parts.scheme}://{parts.netloc}".lower()
    if text != "*" and (parts.scheme not in ("http", "https") or origin != text):
        raise ValueError(
            f"{text!r:.100} is not an origin: write scheme and host in lower case, and the port "
            "if it is not the usual one, as https://chat.example.com"
        )
    return text


def checked_url(text: str) -> str:
    """Return the URL of a server, without a slash at its end.

    Raises:
        ValueError: it is no http or https URL with a host.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{text!r:.100} is no URL of a server: write it as http://gpu-1:8000")
    return text.rstrip("/")


def check_site(headers: Headers, allowed: Sequence[str] = ()) -> None:
    """Check that no web page of another site made a request, but for `allowed` origins.

    `*` allows none here: without keys any page would be an admin.

    Raises:
        CrossSiteRefused: its headers, which a browser sets and a page cannot change, say so.
    """
    origin, host = headers.get("origin"), headers.get("host", "").lower()
    if origin is not None and origin in allowed:
        return
    if origin is not None and urlsplit(origin).netloc.lower() != host:
        raise CrossSiteRefused(origin)
    if headers.get("sec-fetch-site", "") not in _OWN_SITES:
        raise CrossSiteRefused(origin or headers["sec-fetch-site"])


def is_loopback(host: str) -> bool:
    """Return whether a name or an address means this machine, as seen from itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(value: str) -> str:
    """Return the name in a Host header, without its port and in lower case."""
    try:
        return (urlsplit(f"//{value}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _matches(host: str, pattern: str) -> bool:
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))
