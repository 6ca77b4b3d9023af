"""Whether Prefect's server already has the deployments of the current prefect.yaml and flows.

Deploying takes five seconds of a start and reverts changes made in the UI, so it is done only when something that it
reads has changed, or something that it created is missing.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deployments.local import state
from deployments.local.orchestrator import POOL, Orchestrator

PACKAGES = ("flows", "core")  # parameters, their types and their descriptions come from here
VARIABLE = re.compile(rb"\{\{\s*\$(\w+)\s*\}\}")


def fingerprint(prefect_file: Path, environ: Mapping[str, str]) -> str:
    """A digest of all that a deploy reads: the file, the variables it refers to, the flows, and Prefect's version."""
    digest = hashlib.sha256(version("prefect").encode())
    written = prefect_file.read_bytes()
    sources = [source for name in PACKAGES for source in sorted(_folder(name).rglob("*.py"))]
    for content in (written, *(source.read_bytes() for source in sources)):
        digest.update(hashlib.sha256(content).digest())
    for name in sorted(set(VARIABLE.findall(written))):
        digest.update(f"{name!r}={environ.get(name.decode())!r}".encode())
    return digest.hexdigest()


async def current(server: Orchestrator, mark: Path, now: str) -> bool:
    """Whether the server still has everything that was deployed with this digest."""
    kept = remembered(mark)
    if kept.get("fingerprint") != now or await server.request(f"/work_pools/{POOL}") is None:
        return False
    return set(kept["deployments"]) <= set(await _ids(server))


async def remember(server: Orchestrator, mark: Path, now: str) -> None:
    """Store the ids of the deployments, and the digest they were deployed with."""
    state.write(mark, json.dumps({"fingerprint": now, "deployments": await _ids(server)}))


def remembered(mark: Path) -> dict[str, Any]:
    """What was kept; nothing when it cannot be read."""
    try:
        kept: dict[str, Any] = json.loads(mark.read_text())
    except (OSError, ValueError):
        return {}
    return kept


async def _ids(server: Orchestrator) -> list[str]:
    found = await server.request("/deployments/filter", {})
    return [deployment["id"] for deployment in found or ()]


def _folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None  # noqa: S101  (both belong to this distribution)
    assert spec.origin is not None  # noqa: S101
    return Path(spec.origin).parent
