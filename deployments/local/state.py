"""The files of the local stack under STATE_DIR: secrets, logs, the lock against a second stack."""

import fcntl
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import GreenroomError

LOG_BYTES = 10 * 1024 * 1024


class AlreadyUp(GreenroomError):
    """Another supervisor holds this STATE_DIR."""

    def __init__(self, state_dir: Path, pid: str) -> None:
        super().__init__(
            f"A stack is already running on {state_dir}"
            f"{f' (process {pid})' if pid else ''}. Stop it with Ctrl-C in its terminal, "
            "or set GREENROOM_STATE_DIR (and the ports) for a second one."
        )


def prepare(state_dir: Path) -> None:
    """Create the folders that the parts write to."""
    for folder in (state_dir, state_dir / "run", state_dir / "log", state_dir / "mail"):
        folder.mkdir(parents=True, exist_ok=True)


def empty_folder(folder: Path) -> Path:
    """The folder, emptied, created if absent."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def exclusive(state_dir: Path) -> Iterator[None]:
    """Lock STATE_DIR for this process until it ends, however it ends.

    Raises AlreadyUp when another process holds it.
    """
    with (state_dir / "run" / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise AlreadyUp(state_dir, file.read().strip()) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write(path: Path, content: str | bytes) -> None:
    """Replace the file in one step, so that no reader sees half of it; only its owner may read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # with mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def secret(path: Path, prefix: str = "") -> str:
    """The secret in this file; created at the first call, readable only by its owner."""
    if not path.exists():
        write(path, prefix + secrets.token_urlsafe(32))
    return path.read_text().strip()


def rotate(log: Path) -> None:
    """Rename a large log to ``.1``, replacing the previous one."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path, lines: int = 15) -> list[str]:
    """The last lines of a log; of a large one only its end is read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 64 * 1024))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
