"""What a check says."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SET_UP = "deployments/setup.sh"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; ``get`` is what to do about it."""

    state: Literal["ok", "warn", "missing"]
    says: str
    get: str = ""


Findings = Iterator[Finding]


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return f"{str(error).strip() or type(error).__name__}".splitlines()[0]


def run(*command: str) -> str:
    """What a program prints."""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()  # noqa: S603
