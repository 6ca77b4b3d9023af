"""Folders for browsers' temporary files: each is locked, and the lock ends with its process, however that ends."""

import os
import shutil
import tempfile
import time
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

PREFIX = "greenroom-reports-"
_NEW = 60.0
"""Seconds in which a folder without a lock file counts as one that is being created."""


class TempDir:
    """A new temporary folder, until ``remove``."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            flock(self._lock, LOCK_EX | LOCK_NB)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def remove(self) -> bool:
        """Remove it with its content; returns whether that succeeded."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            return False
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return True


def remove_leftovers() -> int:
    """Remove the folders that killed processes left; returns how many."""
    removed = 0
    try:
        found = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    except OSError:  # no folder for temporary files: creating one will report it
        return 0
    for left in found:
        try:
            removed += _remove_leftover(left)
        except OSError:  # another user's, or another process removed it
            continue
    return removed


def _remove_leftover(left: Path) -> bool:
    found = left.lstat()
    if found.st_uid != os.getuid() or left.is_symlink():
        return False
    try:
        lock = os.open(left / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        if time.time() - found.st_mtime < _NEW:
            return False
        shutil.rmtree(left)
        return True
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(left)
        return True
    finally:
        os.close(lock)
