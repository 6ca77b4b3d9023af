"""Who asks from this machine itself."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


def from_here(request: Request) -> bool:
    """Whether the request comes from a loopback address, and for nobody else.

    Not from any private one: to a container all the world may come from its gateway. Nor through a proxy on this
    machine, which says in a header for whom it asks.
    """
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        found = ip_address(request.client.host)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def named_here(request: Request, public_url: str) -> bool:
    """Whether the Host is a name of this machine's own, or PUBLIC_URL's.

    A page of a stranger whose name was made to lead to 127.0.0.1 (DNS rebinding) has another.
    """
    host = _host(f"//{request.headers.get('host', '')}")
    return host in {"localhost", "127.0.0.1", "::1", _host(public_url)}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
