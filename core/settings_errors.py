"""What is wrong with settings: unknown names with the nearest known one, bad values without their secrets."""

import json
import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from dotenv import dotenv_values

PREFIX = "GREENROOM_"
ALSO_KNOWN = ("POOL", "POOL_TYPE", "POOL_IMAGE", "POOL_COMMAND", "POOL_SECRET", "STACK", "PART")
"""Names that are read elsewhere: by prefect.yaml and ``greenroom worker``, and by the local stack, which marks its
parts with them."""
_PASSWORD = re.compile(r"(?<=://).*(?=@)|(?<=\?)[^\"]+")
"""Where a URL may hold a password: before the host, or in the query, where its name may be misspelt."""


def unknown_names(fields: Iterable[str]) -> dict[str, str]:
    """Every GREENROOM_… name of the environment and of ``.env`` that nothing reads, with the nearest known one.

    A misspelt limit would otherwise be no limit. Raises OSError and UnicodeDecodeError for a ``.env`` that cannot be
    read.
    """
    known = [PREFIX + name for name in (*(field.upper() for field in fields), *ALSO_KNOWN)]
    given = {*os.environ, *dotenv_values(".env")}
    found: dict[str, str] = {}
    for name in sorted(name for name in given if name.upper().startswith(PREFIX) and name.upper() not in known):
        nearest = get_close_matches(name.upper(), known, n=1, cutoff=0.5)
        found[name] = f"is no setting{f'; did you mean {nearest[0]}?' if nearest else ''}"
    return found


def setting_name(error: dict[str, Any]) -> str:
    """The setting that pydantic's error is about, as people write it."""
    field = str(error.get("ctx", {}).get("setting", error["loc"][0])).upper()
    return field if field.startswith("PREFECT_") else PREFIX + field


def reason(error: dict[str, Any]) -> str:
    """Why its value is wrong, with the value unless it is a secret."""
    message = str(error["msg"]).removeprefix("Value error, ")
    if "SECRET" in str(error["loc"][0]).upper():
        return message
    given = _PASSWORD.sub("***", json.dumps(error["input"], default=str))
    return f"{message} (is {given})"
