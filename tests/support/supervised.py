"""A part for the supervisor that does what a test says."""

import os
import sys
from pathlib import Path

from deployments.local.supervisor import Part

# writes its id when it is up; then does what the test says
CHILD = """
import os, pathlib, signal, subprocess, sys, time
here = pathlib.Path(sys.argv[1])
with (here / "starts").open("a") as starts:
    starts.write(f"{time.monotonic()}\\n")
THEN
(here / "up.new").write_text(str(os.getpid()))
(here / "up.new").rename(here / "up")
LAST
"""
SLEEP = "time.sleep(600)"


def child(folder: Path, then: str = "", last: str = SLEEP, **more: object) -> Part:
    """A part that is ready when the process that is asked about has written its id."""

    async def ready(pid: int) -> bool:
        return (folder / "up").exists() and (folder / "up").read_text() == str(pid)

    code = CHILD.replace("THEN", then).replace("LAST", last)
    env = {"PATH": os.defpath}
    return Part("child", [sys.executable, "-c", code, str(folder)], env, ready, **more)  # type: ignore[arg-type]
