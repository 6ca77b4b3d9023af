"""Folders of browsers' temporary files: each held by a lock that ends with its process, however that ends."""

import os
import shutil
import tempfile
import time
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

PREFIX = "greenroom-reports-"
_NEW = 60.0
"""Seconds that a folder without a lock is taken for one that is being made."""


class TempDir:
    """A new folder of ours, until ``remove``."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            flock(self._lock, LOCK_EX | LOCK_NB)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def remove(self) -> bool:
        """Remove it and all in it; whether that is done."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.path.exists():
            return False
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        return True


def remove_leftovers() -> int:
    """Remove what processes that were killed left behind; how many folders that was."""
    swept = 0
    try:
        found = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    except OSError:  # no place for temporary files: who needs one will say so
        return 0
    for left in found:
        try:
            swept += _remove_leftovers(left)
        except OSError:  # somebody else's, or somebody else was quicker
            continue
    return swept


def _remove_leftovers(left: Path) -> bool:
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
