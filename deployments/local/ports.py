"""Ports: which of the fixed ones are taken and by whom, and a free one for PostgreSQL."""

import errno
import random
import socket
from dataclasses import dataclass
from itertools import combinations

import psutil

from core.errors import GreenroomError

# below every system's range for outgoing connections (Linux 32768, macOS 49152): a client that keeps
# trying a port of that range while nobody listens can connect to itself and so take the port
FREE_RANGE = range(20000, 30000)


@dataclass(frozen=True)
class Fixed:
    """A port that a part will listen on, and the variable that changes it."""

    part: str
    host: str
    port: int
    variable: str


class PortsTaken(GreenroomError):
    """Fixed ports that somebody else listens on, each with what to do."""

    def __init__(self, taken: list[Fixed]) -> None:
        self.taken = taken
        super().__init__("\n".join(_say(port) for port in taken))


def _say(fixed: Fixed) -> str:
    owner = listener(fixed.port)
    return (
        f"Port {fixed.port}, which {fixed.part} needs, is taken"
        f"{f' by {owner}' if owner else ''}: end that process, or choose another with {fixed.variable}=…"
    )


def check(ports: list[Fixed]) -> None:
    """Raise PortsTaken, naming every one of these that cannot be listened on."""
    taken = [port for port in ports if not available(port.host, port.port)]
    if taken:
        raise PortsTaken(taken)
    for one, other in combinations(ports, 2):
        if one.port == other.port:
            raise GreenroomError(
                f"{one.part} and {other.part} both want port {one.port}: choose another with {other.variable}=…"
            )


def available(host: str, port: int) -> bool:
    """Whether a server could listen there now; an address that is not this machine's is an error of its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # as servers do: without it, connections that a stopped server left in TIME_WAIT look like a taken port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except PermissionError:
            raise GreenroomError(f"Port {port} may not be used by this user; choose one above 1023.") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise GreenroomError(f"Cannot listen on {host}:{port}: {error.strerror or error}") from None
    return True


def free(preferred: int | None = None) -> int:
    """A free loopback port outside the range for outgoing connections; the preferred one when it is free."""
    candidates = random.sample(FREE_RANGE, 100)
    for port in [preferred, *candidates] if preferred in FREE_RANGE else candidates:
        if port is not None and available("127.0.0.1", port):
            return port
    raise GreenroomError(f"No free port between {FREE_RANGE.start} and {FREE_RANGE.stop - 1}.")


def listener(port: int) -> str | None:
    """The process that listens on this port, as «name (process 123)»; None when it cannot be known."""
    for process in psutil.process_iter():
        try:
            if any(
                connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port
                for connection in process.net_connections(kind="tcp")
            ):
                return f"{process.name()} (process {process.pid})"
        except (psutil.Error, OSError):
            continue  # another user's process, or one that just ended
    return None


def reachable(host: str) -> str:
    """Where a server that listens on this address is reached from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
