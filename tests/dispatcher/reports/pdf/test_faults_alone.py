"""Engines that cannot start, and processes with one that run out of disk or are killed: nothing is left behind."""

# ruff: noqa: ASYNC240 - a test may look at its own few files

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dispatcher.reports.pdf import Engine, RenderFailed, TimeLimit
from dispatcher.reports.pdf.temp_dirs import TempDir
from tests.support.pdf_documents import gone, processes, small
from tests.support.processes import ROOT

pytestmark = pytest.mark.servers

SLACK = 1.5
"""Seconds over the limit that a machine that is busy with other things may need to kill and clear."""


async def test_programs_that_are_no_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    silent, talking = tmp_path / "silent", tmp_path / "talking"
    silent.write_text("#!/bin/sh\nsleep 60\n")
    talking.write_text("#!/bin/sh\necho 'libnss3.so: cannot open' >&2; exit 127\n")
    for program in (silent, talking):
        program.chmod(0o755)
    async with Engine(browser=silent) as engine:
        began = time.monotonic()
        with pytest.raises(TimeLimit):
            await engine.pdf(small(), seconds=0.5)
        assert time.monotonic() - began < 0.5 + SLACK
    async with Engine(browser=talking) as engine:
        with pytest.raises(RenderFailed, match=r"libnss3\.so: cannot open"):
            await engine.pdf(small())
    assert list(folder.iterdir()) == []


ALONE = """
import asyncio, psutil, resource, sys, time
from dispatcher.reports.pdf import Engine, RenderFailed
from tests.support.pdf_documents import document, line_chart

async def full():
    small = document(figures={"one": line_chart(1, 2)})
    async with Engine() as engine:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        began = time.monotonic()
        try:
            await engine.pdf(small, seconds=5)
            print("printed")
        except RenderFailed as failed:
            print("failed", failed.retry, time.monotonic() - began < 7)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print((await engine.pdf(small))[:4].decode(), flush=True)
        # Now the running browser's disk is full: it may still print, and must not hang.
        family = [psutil.Process(engine.pid), *psutil.Process(engine.pid).children(recursive=True)]
        for one in family:
            if hasattr(one, "rlimit"):
                one.rlimit(psutil.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            print((await engine.pdf(document("<p>much</p>" * 1000, {"one": line_chart(*range(10_000))})))[:4].decode())
        except RenderFailed as failed:
            print("%PDF" if failed.retry else "failed")

async def waiting():
    async with Engine() as engine:
        await engine.warm()
        print(engine.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(globals()[sys.argv[1]]())
"""


def alone(what: str, folder: Path, **environment: str) -> "subprocess.Popen[str]":
    """A process of its own with an engine, whose temporary files are in the folder."""
    return subprocess.Popen(
        [sys.executable, "-c", ALONE, what],
        env=os.environ | {"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)} | environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_the_disk_is_full(tmp_path: Path) -> None:
    with alone("full", tmp_path) as process:
        output = (await asyncio.to_thread(process.communicate, timeout=40))[0].splitlines()
    assert process.returncode == 0
    assert output == ["failed True True", "%PDF", "%PDF"]
    assert list(tmp_path.iterdir()) == []
    await gone(tmp_path)


async def test_the_dispatcher_process_is_killed(tmp_path: Path) -> None:
    """With the browser stopped, and where nothing but the pipes tells the browser."""
    places = [tmp_path / name for name in ("stopped", "pipes")]
    for place in places:
        place.mkdir()
    running = [alone("waiting", place, **({"PATH": "/no"} if place.name == "pipes" else {})) for place in places]
    for process, place in zip(running, places, strict=True):
        with process:
            assert process.stdout is not None
            pid = int(await asyncio.to_thread(process.stdout.readline))
            assert processes(place)
            if place.name == "stopped" and sys.platform == "linux":
                os.kill(pid, signal.SIGSTOP)
            process.kill()
    for place in places:
        await gone(place)
    # What is left, the next engine clears; not what is in use, what is being made, and what is not ours.
    folder = places[0]
    [left] = folder.iterdir()
    for name in ("greenroom-reports-new", "another"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        in_use = TempDir()
        async with Engine(at_once=1) as engine:
            await engine.warm()
            assert not left.exists()
        assert in_use.path.exists()
        assert in_use.remove()
    assert sorted(path.name for path in folder.iterdir()) == ["another", "greenroom-reports-new"]
