"""Which tests need more than PostgreSQL: they get the marker ``servers``, and ``make quick`` leaves them out.

Known by the fixtures a test uses and by what it, its fixtures and the tests' own functions that they call make use of.
A test that starts a process by yet another way carries the marker itself: without it it fails, so that none slips into
``make quick``.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import pytest

FIXTURES = frozenset({"prefect", "api", "stack", "js_clients"})
"""Prefect's server, the API as a process, the local stack, STOMP clients in Node."""
USES = frozenset({"api_process", "serving", "JsClient", "subprocess", "create_subprocess_exec", "Process"})
"""What starts the API, an SMTP server, a client in Node, or any process for one test."""
_THERE = frozenset({"postgres", "database", "shared_database"})
"""What every test may use."""
_STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn"})

_at_work: pytest.Item | None = None
"""The test that runs now and may not start a process."""


def needs_servers(item: pytest.Item) -> bool:
    """Whether the test carries the marker, or uses what starts a server."""
    if item.get_closest_marker("servers") or item.get_closest_marker("soak"):
        return True
    fixtures: dict[str, Any] = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    if fixtures.keys() & FIXTURES:
        return True
    used: list[Any] = [item.function]  # type: ignore[attr-defined]
    used += [each.func for name, defined in fixtures.items() if name not in _THERE for each in defined]
    return _use_servers(used)


def _use_servers(functions: list[Callable[..., Any]]) -> bool:
    """Whether one of these, or one of the tests' own functions that they call, names one of USES."""
    seen: set[CodeType] = set()
    while functions:
        function = inspect.unwrap(functions.pop())
        if not inspect.isfunction(function) or not function.__module__.startswith("tests."):
            continue
        if function.__code__ in seen:
            continue
        seen.add(function.__code__)
        names = _names(function.__code__)
        if names & USES:
            return True
        functions += [used for name in names if callable(used := function.__globals__.get(name))]
    return False


def _names(code: CodeType) -> set[str]:
    """The names that a function and those inside it use."""
    inner = (_names(const) for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*inner)


@contextmanager
def watched(item: pytest.Item) -> Iterator[None]:
    """Let the test start no process unless it is marked."""
    global _at_work  # noqa: PLW0603 - an audit hook is one for the whole process
    _at_work = None if item.get_closest_marker("servers") else item
    try:
        yield
    finally:
        _at_work = None


@contextmanager
def may_start() -> Iterator[None]:
    """What is started here is there for every test: PostgreSQL."""
    global _at_work  # noqa: PLW0603
    kept, _at_work = _at_work, None
    try:
        yield
    finally:
        _at_work = kept


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _STARTS and _at_work is not None:
        raise AssertionError(f"{_at_work.nodeid} starts a process ({arguments[0]}) and lacks pytest.mark.servers")


def refuse_unmarked() -> None:
    """From now on."""
    sys.addaudithook(_refuse)
