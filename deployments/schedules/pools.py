"""The work pool that prefect.yaml deploys to: processes here or, by variables alone, containers elsewhere.

Its type's template comes from the server, which has those of all types; only the worker needs the type's package.
"""

from collections.abc import Mapping
from typing import Any

from core.errors import GreenroomError

LOCAL = {
    "GREENROOM_POOL": "local",
    "GREENROOM_POOL_TYPE": "process",
    "GREENROOM_POOL_COMMAND": "python -m prefect.engine",
    "GREENROOM_POOL_IMAGE": "greenroom:latest",
}
"""The defaults of these variables; prefect.yaml refers to all but the type."""
FROM_CLUSTER = "GREENROOM_POOL_SECRET"
"""Names a Kubernetes Secret that holds the settings, which then are not stored in Prefect."""
_HERE = ("GREENROOM_POOL", "GREENROOM_STACK", "GREENROOM_PART", "GREENROOM_STATE_DIR")


def template(metadata: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The base job template of the pool that these variables describe.

    A run in a container gets the settings of the deploying process: from the pool or, on Kubernetes, from a Secret.
    Raises GreenroomError for a type that the server does not know.
    """
    kind = environ["GREENROOM_POOL_TYPE"]
    known = {name: found for package in metadata.values() for name, found in package.items()}
    if kind not in known:
        raise GreenroomError(f"GREENROOM_POOL_TYPE is {kind!r}; Prefect's server knows {', '.join(sorted(known))}.")
    made: dict[str, Any] = known[kind]["default_base_job_configuration"]
    if kind == "process":
        return made  # a process inherits its worker's environment
    if kind == "kubernetes" and environ.get(FROM_CLUSTER):
        pod = made["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
        pod["containers"][0]["envFrom"] = [{"secretRef": {"name": environ[FROM_CLUSTER]}}]
    else:
        settings = {
            name: value
            for name, value in environ.items()
            if name.startswith("GREENROOM_") and not name.startswith(_HERE)
        }
        made["variables"]["properties"]["env"]["default"] = settings
    return made
