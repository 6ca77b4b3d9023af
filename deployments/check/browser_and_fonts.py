"""Checks of what printing reports needs: a browser that starts, and fonts for names in every script."""

import shutil
import subprocess

from core.errors import BadSettings
from deployments.check.findings import Finding, Findings, run, short_message


def browser() -> Findings:
    """Whether there is a browser, and whether it can be run."""
    from dispatcher.reports.pdf.errors import RenderFailed
    from dispatcher.reports.pdf.find_browser import HOW_TO_INSTALL, find_browser

    try:
        found = find_browser()
    except BadSettings:
        return  # the check of the settings reports it
    except RenderFailed as error:
        yield Finding("missing", short_message(error))
        return
    if found is None:
        yield Finding("warn", "none found: reports are available as CSV only", HOW_TO_INSTALL)
        return
    try:
        version = run(str(found), "--version")
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", None) or str(error)
        yield Finding("missing", f"{found} cannot be run: {output.strip().splitlines()[-1]}", HOW_TO_INSTALL)
    else:
        yield Finding("ok", f"{version or found}, prints reports")


def fonts() -> Findings:
    """Whether fonts for every script are installed."""
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
