"""What prints reports: a browser that starts, and fonts for names in every script."""

import shutil
import subprocess

from core.errors import BadSettings
from deployments.check.finding import Finding, Findings, first_line, run


def browser() -> Findings:
    """Whether there is a browser, and it can be run."""
    from dispatcher.reports.pdf.errors import RenderFailed
    from dispatcher.reports.pdf.find_browser import HOW, find_browser

    try:
        found = find_browser()
    except BadSettings:
        return  # told by the settings
    except RenderFailed as error:
        yield Finding("missing", first_line(error))
        return
    if found is None:
        yield Finding("warn", "there is none, so that reports are CSV only", HOW)
        return
    try:
        version = run(str(found), "--version")
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        yield Finding("missing", f"{found} cannot be run: {said.strip().splitlines()[-1]}", HOW)
    else:
        yield Finding("ok", f"{version or found}, prints reports")


def fonts() -> Findings:
    """Whether names in every script have letters."""
    from core.reports.charts.fonts import FAMILIES, PACKAGES

    lister = shutil.which("fc-list") or shutil.which("fc-list", path="/usr/bin:/opt/homebrew/bin")
    if lister is None:
        yield Finding("ok", "the system's own")
        return
    lacking = [package for family, package in zip(FAMILIES, PACKAGES, strict=True) if not run(lister, family, "family")]
    if lacking:
        get = f"Debian, Ubuntu: apt-get install {' '.join(lacking)}"
        yield Finding("warn", "names in some scripts would be printed as boxes", get)
    else:
        yield Finding("ok", ", ".join(FAMILIES))
