"""Whatever happens to the browser: a clear failure in time, the next report works, and nothing is left behind."""

# ruff: noqa: ASYNC240 - a test may look at its own few files

import asyncio
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from core.reports.document import Document
from dispatcher.reports.pdf import Engine, RenderFailed, TimeLimit
from tests.support.pdf_documents import document, gone, processes, small, until

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]

NEVER = {"data": [], "layout": {"annotations": [{"text": f"note {n}", "x": n, "y": n} for n in range(15_000)]}}
"""A figure that plotly is at for minutes."""
LIMIT = 1.5
SLACK = 1.5
"""Seconds over the limit that a machine that is busy with other things may need to kill and clear."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Where the browsers' folders are."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("faults")
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(folder: Path) -> AsyncIterator[dict[int, Engine]]:
    """Engines by how many they print at once."""
    engines = {at_once: Engine(at_once=at_once) for at_once in (1, 2)}
    yield engines
    for one in engines.values():
        await one.close()
    assert list(folder.iterdir()) == []
    await gone(folder)


@pytest_asyncio.fixture(loop_scope="module", params=[1])
async def engine(request: pytest.FixtureRequest, shared: dict[int, Engine], folder: Path) -> AsyncIterator[Engine]:
    """A warm engine; afterwards the next report works, from one browser in one folder."""
    engine = shared[request.param]
    await engine.pdf(small())
    yield engine
    assert (await engine.pdf(small())).startswith(b"%PDF")
    pids = {one.pid for one in shared.values() if one.pid}
    await until(lambda: len(list(folder.iterdir())) == len(pids))
    await until(lambda: {os.getsid(one) for one in processes(folder)} == pids)


two_at_once = pytest.mark.parametrize("engine", [2], indirect=True)


def never() -> Document:
    return document(figures={"never": NEVER})


def renderers(engine: Engine) -> list[psutil.Process]:
    """The processes that hold the tabs."""
    assert engine.pid is not None
    family = psutil.Process(engine.pid).children(recursive=True)
    return [one for one in family if "--type=renderer" in one.cmdline()]


def busy(engine: Engine, reports: int = 1) -> bool:
    """Whether as many reports are being printed, and a tab is at work."""
    return engine.printing == reports and any(one.cpu_percent(0.1) > 5 for one in renderers(engine))


@two_at_once
async def test_the_browser_is_killed(engine: Engine) -> None:
    rendering = [asyncio.create_task(engine.pdf(never())) for _ in range(2)]
    await until(lambda: busy(engine, 2))
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    for one in rendering:
        with pytest.raises(RenderFailed, match="browser") as failed:
            await asyncio.wait_for(one, LIMIT)
        assert failed.value.retry


async def test_the_browser_is_killed_while_idle(engine: Engine) -> None:
    assert engine.pid is not None
    before = engine.pid
    os.killpg(before, signal.SIGKILL)
    assert await engine.pdf(small())
    assert engine.pid != before


async def test_a_renderer_process_is_killed_while_printing(engine: Engine) -> None:
    rendering = asyncio.create_task(engine.pdf(never()))
    await until(lambda: busy(engine))
    for one in renderers(engine):
        one.kill()
    with pytest.raises(RenderFailed, match="crashed") as failed:
        await asyncio.wait_for(rendering, LIMIT)
    assert failed.value.retry


async def test_a_renderer_process_is_killed_while_idle(engine: Engine) -> None:
    before = engine.pid
    for one in renderers(engine):
        one.kill()
    try:  # whether the browser is quicker to tell
        await engine.pdf(small())
    except RenderFailed as failed:
        assert failed.retry
    assert (await engine.pdf(small())).startswith(b"%PDF")
    assert engine.pid != before


@pytest.mark.parametrize("whom", ["browser", "renderers", "all"])
async def test_the_browser_is_stopped_while_printing(engine: Engine, whom: str) -> None:
    began = time.monotonic()
    rendering = asyncio.create_task(engine.pdf(never(), seconds=LIMIT))
    await until(lambda: engine.printing == 1)
    stop(engine, whom)
    with pytest.raises(TimeLimit) as failed:
        await rendering
    assert failed.value.retry
    assert LIMIT <= time.monotonic() - began < LIMIT + SLACK


async def test_the_browser_is_stopped_while_idle(engine: Engine) -> None:
    before = engine.pid
    stop(engine, "browser")
    with pytest.raises(TimeLimit):  # too little to find out and start another
        await engine.pdf(small(), seconds=0.5)
    assert (await engine.pdf(small())).startswith(b"%PDF")
    between = engine.pid
    stop(engine, "all")
    assert (await engine.pdf(small())).startswith(b"%PDF")
    assert len({before, between, engine.pid}) == 3


def stop(engine: Engine, whom: str) -> None:
    """Stop the browser, the processes of its tabs, or all that it has, as SIGSTOP does."""
    pid = engine.pid
    assert pid is not None
    if whom == "all":
        os.killpg(pid, signal.SIGSTOP)
    elif whom == "browser":
        os.kill(pid, signal.SIGSTOP)
    else:
        for one in renderers(engine):
            one.suspend()


@two_at_once
async def test_a_hanging_chart_fails_the_concurrent_reports(engine: Engine) -> None:
    began = time.monotonic()
    never_ending = asyncio.create_task(engine.pdf(never(), seconds=LIMIT))
    other = asyncio.create_task(engine.pdf(never(), seconds=60))
    await until(lambda: engine.printing == 2)
    with pytest.raises(TimeLimit, match=f"within {LIMIT} s"):
        await never_ending
    with pytest.raises(RenderFailed, match="another report") as failed:
        await other
    assert failed.value.retry
    assert not isinstance(failed.value, TimeLimit)
    assert time.monotonic() - began < LIMIT + SLACK


async def test_a_page_that_hangs(engine: Engine) -> None:
    rows = "<tr><td>a</td><td>b</td></tr>" * 100_000
    began = time.monotonic()
    with pytest.raises(TimeLimit):
        await engine.pdf(document(f"<table>{rows}</table>"), seconds=LIMIT)
    assert time.monotonic() - began < LIMIT + SLACK


async def test_a_page_whose_rendering_hangs(engine: Engine) -> None:
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def page(_: object) -> str:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result()
        return ""

    try:
        with pytest.raises(TimeLimit):
            await engine.pdf(Document("A report", {}, page), seconds=0.5)
    finally:
        release.set()


@two_at_once
async def test_a_cancelled_report_lets_the_others_finish(engine: Engine) -> None:
    before = engine.pid
    unwanted = asyncio.create_task(engine.pdf(never()))
    await until(lambda: busy(engine))
    other = asyncio.create_task(engine.pdf(small()))
    await until(lambda: engine.printing == 2)
    unwanted.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unwanted
    assert (await other).startswith(b"%PDF")
    await engine.pdf(small())
    assert engine.pid != before


async def test_the_engine_is_closed_while_printing(folder: Path) -> None:
    engine = Engine()
    await engine.warm()
    rendering = asyncio.create_task(engine.pdf(never()))
    await until(lambda: busy(engine))
    pid = engine.pid
    await engine.close()
    for one in (rendering, engine.pdf(small())):
        with pytest.raises(RenderFailed, match="closed") as failed:
            await one
        assert failed.value.retry
    await until(lambda: not any(os.getsid(one) == pid for one in processes(folder)))
