"""``greenroom report``: one report to a file, rendered in this process, with only the database."""

import asyncio
import os
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from core import reports
from core.clock import utcnow
from core.db import transaction
from core.errors import GreenroomError, Invalid
from core.reports import build
from core.reports.queue.outcomes import RenderedReport
from core.reports.queue.parameters import new_report
from core.reports.registry import ReportType
from dispatcher.reports.pdf import Engine

PRINT_SECONDS = 120.0
"""Includes the browser's start, on a machine that may be busy."""


def write(kind: str, output: Path | None, **given: Any) -> Path:
    """Render the report and write it to ``output``, completely or not at all; returns the path.

    Without ``output``, or with a folder, the file has the report's own name, in the working directory or the folder.
    Raises Invalid, NotFound, RenderFailed, and FileWriteError.
    """
    try:
        wanted = new_report(type=kind.replace("-", "_"), **given)
        with transaction() as db:
            parameters = reports.check_request(db, wanted, now=utcnow())
    except Invalid as error:
        raise Invalid(_option(error.field), error.reason) from None
    with Progress(sys.stderr) as progress:
        made = asyncio.run(_make(wanted.type, parameters, progress))
        progress.at(3, "writing")
        path = _target(output, made.filename)
        _write(made, path)
        progress.at(4, "done")
    return path


async def _make(kind: ReportType, parameters: dict[str, Any], progress: "Progress") -> RenderedReport:
    if not build.prints(kind):
        progress.at(1, "reading sessions")
        return await asyncio.to_thread(
            build.write_rows,
            kind,
            parameters,
            on_progress=lambda size: progress.at(2, f"reading sessions, {_size(size)}"),
        )
    async with Engine(at_once=1) as engine:
        progress.at(0, "starting the browser")
        starting = asyncio.create_task(engine.warm(seconds=PRINT_SECONDS))
        progress.at(1, "reading data")
        laid_out = await asyncio.to_thread(build.lay_out, kind, parameters)
        await starting
        progress.at(2, "drawing and printing")
        return build.finish_pdf(laid_out, await engine.pdf(laid_out.document, seconds=PRINT_SECONDS))


def _target(output: Path | None, filename: str) -> Path:
    if output is None:
        return Path(filename)
    return output / filename if output.is_dir() else output


def _write(made: RenderedReport, given: Path) -> None:
    """Written under a temporary name and renamed, so that readers see the old or the new file; a pipe is written to."""
    part: Path | None = None
    try:
        if given.exists() and not given.is_file():
            with given.open("wb") as out:
                out.writelines(made.spool.slices())
            return
        path = given.resolve()
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", delete=False) as file:
            part = Path(file.name)
            for some in made.spool.slices():
                file.write(some)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)
        part.replace(path)
    except BaseException as error:
        if part is not None:
            with suppress(OSError):
                part.unlink()
        if isinstance(error, OSError):
            raise FileWriteError(given, error) from None
        raise
    finally:
        made.spool.close()


class FileWriteError(GreenroomError):
    """The file could not be written to the given path."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error.strerror or error}")


def _option(field: str) -> str:
    return {"type": "TYPE", "interview_id": "--interview", "candidate_id": "--candidate"}.get(field, f"--{field}")


def _size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


class Progress:
    """A progress bar on a terminal; no output elsewhere, so that logs stay readable."""

    STEPS = 4
    WIDTH = 24

    def __init__(self, out: IO[str]) -> None:
        self._out, self._shows = out, out.isatty()
        self._began = time.monotonic()
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shows:
            self._out.write("\r\x1b[2K")
            self._out.flush()

    def at(self, step: int, doing: str) -> None:
        """This number of steps is done, and ``doing`` has begun."""
        line = f"{doing}, {time.monotonic() - self._began:.1f} s"
        if self._shows and line != self._last:
            full = self.WIDTH * step // self.STEPS
            self._out.write(f"\r\x1b[2K[{'#' * full}{'.' * (self.WIDTH - full)}] {line}")
            self._out.flush()
            self._last = line
