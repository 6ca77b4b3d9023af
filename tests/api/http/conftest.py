"""One API and one database for all of these tests."""

from collections.abc import Iterator

import pytest

from tests.support import processes
from tests.support.processes import Api, Database, PostgresServer


@pytest.fixture(scope="package")
def shared_database(postgres: PostgresServer) -> Iterator[Database]:
    """A fresh, migrated database, used by this process too."""
    with processes.own_database(postgres) as url:
        yield Database(url)


@pytest.fixture(scope="package")
def api(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API as a process of its own, on that database."""
    with processes.api_process(shared_database.url, tmp_path_factory.mktemp("api")) as running:
        yield running
