"""``greenroom check``: what is missing here, and how to get it."""

from collections.abc import Callable, Iterator

from core.errors import BadSettings
from core.settings import Settings, load
from deployments.check import installed, printing, running
from deployments.check.finding import Finding, Findings, first_line


def report() -> int:
    """Print a line for each thing looked at; the exit code: 1 when something that is needed is missing."""
    found: list[Finding] = []
    try:
        settings: Settings | None = load()
    except BadSettings:
        settings = None
    for what, check in _checks(settings):
        for finding in _calmly(check):
            found.append(finding)
            line = f"{finding.state:<8} {what:<13} {finding.says}"
            print(f"{line}. {finding.get}" if finding.get else line)
    return 1 if any(finding.state == "missing" for finding in found) else 0


def _checks(settings: Settings | None) -> Iterator[tuple[str, Callable[[], Findings]]]:
    yield "python", installed.python
    yield "packages", installed.packages
    yield "prefect", installed.prefect
    yield "settings", installed.settings
    yield "node", installed.node
    yield "browser", printing.browser
    yield "fonts", printing.fonts
    if settings is None:
        yield "the rest", lambda: iter([Finding("warn", "not looked at before the settings are right")])
        return
    yield "tokens", lambda: installed.tokens(settings)
    yield "state", lambda: installed.state(settings.state_dir)
    yield "database", lambda: running.database(settings.database_url) if settings.database_url else running.embedded()
    yield "ports", lambda: running.ports(settings)
    yield "stack", lambda: running.stack(settings)


def _calmly(check: Callable[[], Findings]) -> Findings:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - a doctor that faints is of no use
        yield Finding("missing", first_line(error))
