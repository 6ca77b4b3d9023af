"""Checks of the installation: Python, the locked packages, Prefect, the settings, Node, the state directory."""

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import deployments
from core.errors import BadSettings
from core.settings import Settings, load
from core.settings_errors import PREFIX
from deployments.check.findings import SET_UP, Finding, Findings, run, short_message

ROOT = Path(deployments.__file__).resolve().parent.parent
_SHOWN = 5


def python() -> Findings:
    """Whether this Python is new enough."""
    from packaging.specifiers import SpecifierSet

    have, needed = platform.python_version(), importlib.metadata.metadata("greenroom")["Requires-Python"] or ""
    if SpecifierSet(needed).contains(have, prereleases=True):
        yield Finding("ok", f"{have}, {sys.prefix}")
    else:
        yield Finding("missing", f"this is {have}, needed is {needed}", "Debian, Ubuntu: apt-get install python3")


def packages() -> Findings:
    """Whether the installed packages are the locked ones."""
    from packaging.requirements import Requirement

    lock = ROOT / "requirements.lock"
    if not lock.exists():
        yield Finding("warn", f"there is no {lock} to compare with")
        return
    lines = (line.strip(" \\") for line in lock.read_text().splitlines())
    locked = [Requirement(line) for line in lines if line[:1].isalnum()]
    wanted = [one for one in locked if one.marker is None or one.marker.evaluate()]
    wrong = []
    for one in wanted:
        try:
            have = importlib.metadata.version(one.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{one.name} is not installed")
            continue
        if not one.specifier.contains(have, prereleases=True):
            wrong.append(f"{one.name} is {have}, locked {str(one.specifier).lstrip('=')}")
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        yield Finding("missing", f"{', '.join(wrong[:_SHOWN])}{more}", f"Install them as locked: {SET_UP}")
    else:
        yield Finding("ok", f"{len(wanted)}, as locked")


def prefect() -> Findings:
    """Whether Prefect can be imported, at the pinned version."""
    pinned = next(
        (
            line.split("==")[1].split(";")[0].strip()
            for line in importlib.metadata.requires("greenroom") or ()
            if line.startswith("prefect==")
        ),
        None,
    )
    try:
        from prefect import __version__ as have
    except Exception as error:  # noqa: BLE001 - a broken installation raises anything
        yield Finding("missing", f"it cannot be imported: {short_message(error)}", f"Install it as locked: {SET_UP}")
        return
    if pinned and have != pinned:
        yield Finding("missing", f"it is {have}, pinned {pinned}", f"Install it as locked: {SET_UP}")
    else:
        yield Finding("ok", have)


def settings() -> Findings:
    """Whether the settings are right, and every name of them known."""
    try:
        read = load()
    except BadSettings as error:
        for name, reason in error.reasons.items():
            yield Finding("missing", f"{name}: {reason}", "Set it right in the environment or in .env")
        return
    yield Finding("ok", f"{len(read.model_fields_set)} set, the rest by default")


def node() -> Findings:
    """Whether Node, which the tests' clients need, is installed."""
    lacking = [name for name in ("node", "npm") if shutil.which(name) is None]
    if lacking:
        get = "Debian, Ubuntu: apt-get install nodejs npm; macOS: brew install node"
        yield Finding("warn", f"{' and '.join(lacking)} not found, which only the tests need", get)
    else:
        yield Finding("ok", f"{run('node', '--version')} (for the tests)")


def tokens(given: Settings) -> Findings:
    """Whether tokens could be checked."""
    try:
        given.secret()
    except BadSettings as error:
        if given.database_url:
            get = "greenroom up makes one; any other deployment needs its own: openssl rand -hex 32"
            yield Finding("warn", short_message(error), get)
        else:
            yield Finding("ok", "no secret yet: greenroom up makes one")
    else:
        yield Finding("ok", f"keys of {given.jwks_url}" if given.jwks_url else "a secret is set")


def state(folder: Path) -> Findings:
    """Whether the local stack could keep its state."""
    there = next(step for step in (folder.absolute(), *folder.absolute().parents) if step.exists())
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        get = f"Give yourself the right to write there, or choose another folder with {PREFIX}STATE_DIR"
        yield Finding("missing", f"{there} cannot be written to: {error.strerror}", get)
    else:
        yield Finding(
            "ok", f"{folder.absolute()} {'can be written to' if there == folder.absolute() else 'can be created'}"
        )
