"""Checks a run's parameters before they are sent to Prefect."""

import json
import re
from datetime import date
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, StrictBool, TypeAdapter, ValidationError

from core.errors import Invalid


def check_parameters(given: dict[str, Any], known: dict[str, Any]) -> None:
    """Refuse parameters on which the run would fail or that Prefect cannot store. Raises Invalid, naming the parameter.

    ``known`` are the properties of the flow's schema.
    """
    for name, value in given.items():
        if name not in known:
            raise Invalid(f"parameters.{name}", f"is no parameter of this flow; it has {', '.join(sorted(known))}")
        if not _can_be_kept(value):
            raise Invalid(f"parameters.{name}", "has a number or a character that cannot be kept")
        kinds = [known[name], *known[name].get("anyOf", ())]
        for kind, adapter in _KINDS.items():
            if any(kind in (k.get("type"), k.get("format")) for k in kinds) and value is not None:
                try:
                    adapter.validate_python(value)
                except ValidationError as error:
                    raise Invalid(f"parameters.{name}", error.errors()[0]["msg"]) from None


def _iso_text(value: Any) -> Any:
    """ISO 8601 only: a number would be read as seconds since 1970, which nobody means."""
    if not isinstance(value, str) or not re.match(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("should be written like 2026-11-23, a time like 2026-11-23T10:00:00Z")
    return value


_KINDS: dict[str, TypeAdapter[Any]] = {
    "boolean": TypeAdapter(StrictBool),
    "date-time": TypeAdapter(Annotated[AwareDatetime, BeforeValidator(_iso_text)]),
    "date": TypeAdapter(Annotated[date, BeforeValidator(_iso_text)]),
}


def _can_be_kept(value: Any) -> bool:
    """Python's JSON accepts NaN, lone surrogates and NUL; PostgreSQL stores none of them."""
    try:
        written = json.dumps(value, allow_nan=False, ensure_ascii=False)
        written.encode()
    except ValueError:
        return False
    return "\\u0000" not in written.replace("\\\\", "")
