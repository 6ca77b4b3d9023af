"""Real parts for the tests: one PostgreSQL a run, a database of its own for each test that asks, real clients."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import processes
from tests.support.processes import Api, Database, PostgresServer
from tests.support.stack_process import Stack

if TYPE_CHECKING:
    from tests.support.prefect_server import PrefectProcess


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One embedded PostgreSQL for the run, with a migrated template database."""
    with processes.postgres_server(tmp_path_factory.mktemp("postgres")) as server:
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
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One local stack for the run; a test that stops it has to be the last that counts on it."""
    with Stack(tmp_path_factory.mktemp("stack") / "var") as running:
        yield running


@pytest.fixture(scope="session")
def js_clients() -> Path:
    """The folder of the real STOMP clients, installed from npm when they are not there yet."""
    return processes.install_js_clients()


def pytest_configure() -> None:
    """Settings of the person who runs the tests must not reach them."""
    for name in [name for name in os.environ if name.startswith(("GREENROOM_", "PREFECT_"))]:
        del os.environ[name]
    os.environ["GREENROOM_JWT_SECRET"] = processes.SECRET


LONGEST = (
    "tests/deployments/local/test_stack.py",
    "tests/flows/test_faults.py",
    "tests/dispatcher/mail/test_soak.py",
    "tests/deployments/schedules/test_pools.py",
    "tests/dispatcher/test_flow_states.py",
    "tests/flows/test_run.py",
    "tests/flows/test_jobs.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: of the processes that share the run, none is left with one of them at the end."""
    order = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.location[0], len(LONGEST)))
