"""Whether a request comes from this machine itself."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def is_loopback(request: Request) -> bool:
    """Whether the request comes from a loopback address and was not forwarded for another client.

    Private addresses do not count: a container may see every client as its gateway. Nor does a proxy on this machine,
    which names its client in a header.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        found = ip_address(request.client.host)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def names_this_host(request: Request, public_url: str) -> bool:
    """Whether the Host header names this machine's loopback, or PUBLIC_URL's host.

    A foreign page whose name was made to resolve to 127.0.0.1 (DNS rebinding) sends its own name.
    """
    host = _host(f"//{request.headers.get('host', '')}")
    return host in {"localhost", "127.0.0.1", "::1", _host(public_url)}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
