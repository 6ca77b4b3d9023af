"""Finds the browser that prints reports."""

import os
import shutil
from pathlib import Path

from core.settings import settings
from core.settings_errors import PREFIX
from dispatcher.reports.pdf.errors import RenderFailed

NAMES = ("chromium-headless-shell", "chrome-headless-shell")
PLACES = (Path("/usr/lib/chromium/chromium-headless-shell"),)
"""Debian's program itself: the one on the PATH is a script that starts it and stays running."""
HOW_TO_INSTALL = (
    "Debian: apt-get install chromium-headless-shell; macOS: brew install --cask chromium; elsewhere: "
    f".venv/bin/choreo_get_chrome; or set {PREFIX}BROWSER_PATH to a Chromium"
)


def find_browser() -> Path | None:
    """The browser that is set (``BROWSER_PATH``, ours or kaleido's), else the lightest installed; None: none found.

    Raises RenderFailed when the one that is set cannot be run.
    """
    given = settings().browser_path or os.environ.get("BROWSER_PATH")
    if given:
        path = Path(given)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise RenderFailed(f"The browser that is set, {path}, cannot be run. {HOW_TO_INSTALL}.", retry=False)
        return path
    for place in PLACES:
        if os.access(place, os.X_OK):
            return place
    for name in NAMES:
        if which := shutil.which(name):
            return Path(which)
    from choreographer.browsers import Chromium  # noqa: PLC0415 - only where no headless shell is

    other = Chromium.find_browser(skip_local=False)
    # A snap can access neither our temporary folder nor the pipes.
    return Path(other) if other and "snap" not in str(Path(other).resolve()) else None


def require_browser() -> Path:
    """The browser to use. Raises RenderFailed, which says how to get one."""
    found = find_browser()
    if found is None:
        raise RenderFailed(f"There is no browser to print reports with. {HOW_TO_INSTALL}.", retry=False)
    return found
