"""The client of Prefect's REST API: pages, rows that are not understood, and a run's result."""

import json
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from core import prefect_rest
from core.clock import utcnow
from core.prefect_rest import ResultTable, parse_runs
from dispatcher.prefect_api import PrefectServer
from tests.support.prefect_server import AUTH, PrefectProcess

ROW = {"found": 1, "done": 1}


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (json.dumps([ROW]), ROW),
        ([ROW], ROW),
        ("[]", None),
        ("null", None),
        ('["no row"]', None),
        ('{"found": [1]}', None),
    ],
)
def test_a_result_is_the_tables_one_row(data: Any, result: dict[str, int] | None) -> None:
    table = ResultTable(id=uuid4(), key="f", description=None, data=data)
    assert table.result == result


async def made(server: PrefectServer, flow: str, tag: str) -> UUID:
    """A run of this flow, with this tag."""
    return await server.begin(flow, name=f"{flow}/1", key=str(uuid4()), tags=[tag])


async def test_every_run_is_on_one_page(prefect: PrefectProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_rest, "PAGE", 2)
    tag = f"test-{uuid4()}"
    async with PrefectServer(prefect.url, AUTH) as server:
        expected = {await made(server, "paged", tag) for _ in range(5)}
        body = {"flow_runs": {"tags": {"all_": [tag]}}, "sort": "EXPECTED_START_TIME_ASC"}
        pages = [[UUID(row["id"]) for row in rows] async for rows in server.pages("/flow_runs/filter", body)]
        assert [len(page) for page in pages] == [2, 2, 1]
        assert {id_ for page in pages for id_ in page} == expected
        assert set(await server.running("paged", tag=tag, since=utcnow() + timedelta(minutes=1))) == expected


async def test_a_run_that_is_not_understood_is_left_out(prefect: PrefectProcess) -> None:
    async with PrefectServer(prefect.url, AUTH) as server:
        run_id = await made(server, "understood", "test")
        row = await server.request("GET", f"/flow_runs/{run_id}")
    assert [run.id for run in parse_runs([row | {"id": 7}, "nothing", row])] == [run_id]


async def test_the_newest_table_of_the_flows_name_is_the_result(prefect: PrefectProcess) -> None:
    async with PrefectServer(prefect.url, AUTH) as server:
        run_id = await made(server, "shows", "test")
        assert await server.result_table(run_id, "shows") is None
        await server.show(run_id, "shows", {"found": 1}, "Found 1.")
        await server.show(run_id, "another-table", {"found": 2}, "Found 2.")
        await server.show(run_id, "shows", {"found": 3}, "Found 3.")
        await server.create_link_artifact(run_id, "report", "http://localhost/", "A link")
        table = await server.result_table(run_id, "shows")
        assert table is not None
        assert (table.result, table.description) == ({"found": 3}, "Found 3.")


async def test_names_of_what_was_deleted(prefect: PrefectProcess) -> None:
    async with PrefectServer(prefect.url, AUTH) as server:
        [run] = await server.runs_by_id([await made(server, "named", "test")])
        assert (await server.flow_name(run), await server.deployment_name(run)) == ("named", None)
        gone = run.model_copy(update={"flow_id": uuid4(), "deployment_id": uuid4()})
        assert (await server.flow_name(gone), await server.deployment_name(gone)) == (str(gone.flow_id), None)
