"""The stack's output on the terminal: one line an event, coloured only on a terminal."""

import contextlib
import os
import sys
from typing import TextIO

NAME_WIDTH = 12


class Screen:
    """Writes one line an event: the part, what happened, and how long it took."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.colours = self.out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def ready(self, name: str, seconds: float, what: str = "ready") -> None:
        """A part that is ready, or done."""
        self._write_event("32", name, f"{what} after {seconds:.1f} s")

    def note(self, name: str, text: str) -> None:
        """Information."""
        self._write_event("36", name, text)

    def trouble(self, name: str, text: str) -> None:
        """An error."""
        self._write_event("31", name, text)

    def block(self, text: str) -> None:
        """Several lines as they are."""
        self._write(f"\n{text}\n")

    def bold(self, text: str) -> str:
        """The text, bold on a terminal."""
        return f"\033[1m{text}\033[0m" if self.colours else text

    def _write_event(self, colour: str, name: str, text: str) -> None:
        shown, text = f"{name:<{NAME_WIDTH}}", text.replace("\n", f"\n{'':<{NAME_WIDTH + 3}}")
        self._write(f"  \033[{colour}m{shown}\033[0m {text}" if self.colours else f"  {shown} {text}")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal was closed; the stack goes on
            print(text, file=self.out, flush=True)
