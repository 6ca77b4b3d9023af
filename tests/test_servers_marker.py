"""What ``make quick`` leaves out is known, and nothing else starts a process."""

import os

import pytest

from tests.support import servers_marker
from tests.support.processes import api_process


def test_a_test_without_the_marker_may_start_no_process(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("servers") is None
    with pytest.raises(AssertionError, match=r"starts a process \(/bin/true\) and lacks pytest.mark.servers"):
        os.posix_spawn("/bin/true", ["true"], {})


@pytest.fixture
def by_a_fixture() -> None:
    """It would start an API, were there something to start it for."""
    for url in ():
        with api_process(url, url):
            raise AssertionError


def test_a_test_whose_fixture_names_a_server_has_the_marker(request: pytest.FixtureRequest, by_a_fixture: None) -> None:
    assert request.node.get_closest_marker("servers") is not None


def test_a_test_whose_helper_names_a_server_has_the_marker(request: pytest.FixtureRequest) -> None:
    def unused() -> None:
        by_a_helper()

    assert request.node.get_closest_marker("servers") is not None
    assert servers_marker.needs_servers(request.node)


def by_a_helper() -> None:
    """As above."""
    for url in ():
        with api_process(url, url):
            raise AssertionError
