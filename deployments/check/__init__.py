"""``greenroom check``: what is missing on this machine, and how to install it."""

from collections.abc import Callable, Iterator

from core.errors import BadSettings
from core.settings import Settings, load
from deployments.check import browser_and_fonts, installation, services
from deployments.check.findings import Finding, Findings, short_message


def report() -> int:
    """Print a line for each check; returns the exit code: 1 when something that is required is missing."""
    found: list[Finding] = []
    try:
        settings: Settings | None = load()
    except BadSettings:
        settings = None
    for what, check in _checks(settings):
        for finding in _run_check(check):
            found.append(finding)
            line = f"{finding.state:<8} {what:<13} {finding.message}"
            print(f"{line}. {finding.fix}" if finding.fix else line)
    return 1 if any(finding.state == "missing" for finding in found) else 0


def _checks(settings: Settings | None) -> Iterator[tuple[str, Callable[[], Findings]]]:
    yield "python", installation.python
    yield "packages", installation.packages
    yield "prefect", installation.prefect
    yield "settings", installation.settings
    yield "node", installation.node
    yield "browser", browser_and_fonts.browser
    yield "fonts", browser_and_fonts.fonts
    if settings is None:
        yield "the rest", lambda: iter([Finding("warn", "not checked before the settings are right")])
        return
    yield "tokens", lambda: installation.tokens(settings)
    yield "state", lambda: installation.state(settings.state_dir)
    yield "database", lambda: services.database(settings.database_url) if settings.database_url else services.embedded()
    yield "ports", lambda: services.ports(settings)
    yield "stack", lambda: services.stack(settings)


def _run_check(check: Callable[[], Findings]) -> Findings:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - a check that fails must not end the report
        yield Finding("missing", short_message(error))
