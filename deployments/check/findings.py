"""The result of a check, and helpers for checks."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

SET_UP = "deployments/setup.sh"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; ``fix`` is what to do about it."""

    state: Literal["ok", "warn", "missing"]
    message: str
    fix: str = ""


Findings = Iterator[Finding]


def short_message(error: BaseException) -> str:
    """The first line of an error's message."""
    return f"{str(error).strip() or type(error).__name__}".splitlines()[0]


def run(*command: str) -> str:
    """A program's standard output."""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()  # noqa: S603
