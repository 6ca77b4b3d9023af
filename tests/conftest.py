"""Real parts for the tests: one PostgreSQL a run, a database of its own for each test that asks, real clients."""

import os
import random
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes, servers_marker
from tests.support.processes import Api, Database, PostgresServer
from tests.support.stack_process import Stack
from tests.support.watchdog import Watched

if TYPE_CHECKING:
    from tests.support.prefect_server import PrefectProcess


WATCHED = pytest.StashKey[Watched]()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One embedded PostgreSQL for the run, with a migrated template database."""
    with ExitStack() as running:
        with servers_marker.may_start():
            server = running.enter_context(processes.postgres_server(tmp_path_factory.mktemp("postgres")))
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a fresh, migrated database, which the process's settings and engine now use."""
    with processes.own_database(postgres) as url:
        yield url


@pytest.fixture(scope="module")
def shared_database(postgres: PostgresServer) -> Iterator[Database]:
    """A fresh, migrated database for a module, used by this process too."""
    with processes.own_database(postgres) as url:
        yield Database(url)


@pytest.fixture(scope="module")
def api(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API as a process of its own, on the module's database."""
    with processes.api_process(shared_database.url, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="session")
def prefect(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator["PrefectProcess"]:
    """One Prefect server for the run, on a database of its own."""
    from tests.support import prefect_server  # noqa: PLC0415 - it imports Prefect for seconds, and few tests need it

    with prefect_server.running(postgres, tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="session")
def _one_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack") / "var") as running:
        yield running


@pytest.fixture
def stack(_one_stack: Stack) -> Stack:
    """One local stack for the run, up: started again when a test has stopped it, anew when it has taken its state."""
    if not _one_stack.up:
        _one_stack.start()
    return _one_stack


@pytest.fixture(scope="session")
def js_clients() -> Path:
    """The folder of the real STOMP clients, installed from npm when they are not there yet."""
    return processes.install_js_clients()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Settings of the person who runs the tests must not reach them, nor a stack that runs on the default ports."""
    for name in [name for name in os.environ if name.startswith(("GREENROOM_", "PREFECT_"))]:
        del os.environ[name]
    os.environ |= {"GREENROOM_JWT_SECRET": processes.SECRET, **processes.NOBODY_THERE}
    ours = config.option.basetemp is None
    if ours:
        # Not where pytest would put it: it closes that folder to all other accounts whenever a run begins, and
        # PostgreSQL, which works under another account when we are root, would lose its files to the next run.
        config.option.basetemp = tempfile.mkdtemp(prefix="greenroom-tests-")
    config.stash[WATCHED] = Watched(Path(config.option.basetemp).resolve(), remove=ours)
    servers_marker.refuse_unmarked()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """What a run that failed has written may say why."""
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        session.config.stash[WATCHED].keep_folder()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        terminalreporter.write_line(f"Logs and files of the tests are kept in {config.option.basetemp}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that is not marked ``servers`` may start no process."""
    with servers_marker.watched(item):
        return (yield)


LONGEST = (
    "tests/deployments/local/test_stack.py",
    "tests/flows/test_faults.py",
    "tests/dispatcher/mail/test_soak.py",
    "tests/test_watchdog.py",
    "tests/deployments/schedules/test_pools.py",
    "tests/dispatcher/test_flow_states.py",
    "tests/flows/test_run.py",
    "tests/flows/test_jobs.py",
)


def pytest_collection_finish() -> None:
    """pytest-random-order has seeded every worker alike, and they would choose the same ports at the same moment."""
    random.seed()


SOAK_SECONDS = 3600
"""The limit of a test that is marked ``soak``."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests need servers, before ``-m`` chooses; and the longest files first, unless an order is asked for.

    Of the processes that share the run, none is left with a long file at the end.
    """
    for item in items:
        if servers_marker.needs_servers(item):
            item.add_marker("servers")
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(SOAK_SECONDS))
    order = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.location[0], len(LONGEST)))
