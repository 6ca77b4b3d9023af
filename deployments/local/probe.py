"""Readiness checks of running parts, with the standard library alone.

The supervisor of the local stack stays small by it: httpx and pydantic, which core.prefect_rest needs, would double its
memory for the few questions that it asks.
"""

import asyncio
import base64
import http.client
import json
from typing import Any

SECONDS = 2.0


async def accepts(host: str, port: int) -> bool:
    """Whether a server accepts connections there and sends a greeting, as SMTP servers do."""
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), SECONDS)
        try:
            return bool(await asyncio.wait_for(reader.readline(), SECONDS))
        finally:
            writer.close()
    except (OSError, TimeoutError):
        return False


async def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET of this path is 200."""
    return await request_json(host, port, path) is not None


async def request_json(host: str, port: int, path: str, *, auth: str | None = None, body: Any = None) -> Any:
    """The JSON of a 200 to a GET (or to a POST of ``body``); None when there is no such answer."""
    return await asyncio.to_thread(_request_json, host, port, path, auth, body)


def _request_json(host: str, port: int, path: str, auth: str | None, body: Any) -> Any:
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    headers = {"Content-Type": "application/json"}
    if auth is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(auth.encode()).decode()}"
    try:
        connection.request("GET" if body is None else "POST", path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        return json.loads(content) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
