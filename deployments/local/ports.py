"""Ports: which of the fixed ones are taken and by which process, and a free one for PostgreSQL."""

import errno
import random
import socket
from dataclasses import dataclass
from itertools import combinations

import psutil

from core.errors import GreenroomError

# below every system's range for outgoing connections (Linux 32768, macOS 49152): a client that retries a port of that
# range while nothing listens there can connect to itself, which takes the port (TCP simultaneous open)
FREE_RANGE = range(20000, 30000)


@dataclass(frozen=True)
class FixedPort:
    """A port that a part will listen on, and the variable that changes it."""

    part: str
    host: str
    port: int
    variable: str


class PortsTaken(GreenroomError):
    """Ports that another process listens on, each with what to do."""

    def __init__(self, taken: list[FixedPort]) -> None:
        self.taken = taken
        super().__init__("\n".join(_taken_message(port) for port in taken))


def _taken_message(fixed: FixedPort) -> str:
    owner = listener(fixed.port)
    return (
        f"Port {fixed.port}, which {fixed.part} needs, is taken"
        f"{f' by {owner}' if owner else ''}: end that process, or choose another with {fixed.variable}=…"
    )


def check(ports: list[FixedPort]) -> None:
    """Raise PortsTaken with every one of these ports that is taken."""
    taken = [port for port in ports if not available(port.host, port.port)]
    if taken:
        raise PortsTaken(taken)
    for one, other in combinations(ports, 2):
        if one.port == other.port:
            raise GreenroomError(
                f"{one.part} and {other.part} have the same port {one.port}: choose another with {other.variable}=…"
            )


def available(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises GreenroomError for an address that is not this machine's."""
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
    """The process that listens on this port, as «name (process 123)»; None when it cannot be determined."""
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
    """The address to reach a server that listens on this address, from this machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
