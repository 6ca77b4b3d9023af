"""The keys of an outside issuer: read in the background, so that nobody who signs in waits for another server.

The last good set serves on while the issuer is away or hangs. A key that the set does not name makes it be read again
soon, once for however many tokens name one (RFC 7517).
"""

import logging
import threading
import time
from functools import lru_cache
from typing import Any

import httpx
import jwt

from core.errors import Unavailable

log = logging.getLogger(__name__)

LIFESPAN_SECONDS = 300.0
"""How long a set is taken for true; a key that was withdrawn signs nobody in after that."""
PAUSE_SECONDS = 5.0
"""At least so long between two reads: tokens with made-up key ids must not make us ask the issuer without end."""
TIMEOUT_SECONDS = 5.0
LARGEST = 1024 * 1024
"""Bytes of a key set at most."""


class KeySet:
    """An issuer's signing keys by their ids, kept fresh by a thread of its own once it is started."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, Any] | None = None
        self._wanted, self._first = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Read the set soon, and go on doing so; again is nothing."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="read the issuer's keys", daemon=True)
                self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether there is a set, after at most so many seconds: for a command that has nothing else to do."""
        self.start()
        return self._first.wait(seconds)

    def key(self, key_id: str) -> Any:
        """The key of this id; None when the issuer has none. Never waits. Raises Unavailable before the first set."""
        self.start()
        keys = self._keys
        if keys is None:
            raise Unavailable("The issuer's keys cannot be read for now; try again.")
        if key_id not in keys:
            self._wanted.set()
        return keys.get(key_id)

    def _run(self) -> None:
        warned = False
        while True:
            began = time.monotonic()
            try:
                self._keys = _read(self._url)
                if warned:
                    log.info("the issuer's keys are read again")
                warned = False
                self._first.set()
            except (httpx.HTTPError, jwt.PyJWTError, ValueError, RecursionError) as error:
                if not warned:
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                    log.warning("the issuer's keys cannot be read; trying again: %s", reason)
                warned = True
            patience = PAUSE_SECONDS if warned else LIFESPAN_SECONDS
            time.sleep(max(0.0, PAUSE_SECONDS - (time.monotonic() - began)))
            self._wanted.wait(max(0.0, patience - (time.monotonic() - began)))
            self._wanted.clear()


@lru_cache(maxsize=4)
def key_set(url: str) -> KeySet:
    """The process's key set of this address."""
    return KeySet(url)


def _read(url: str) -> dict[str, Any]:
    """The signing keys at the address by their ids; encryption keys and kinds that we do not know are left out."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    content = b""
    with httpx.stream("GET", url, timeout=TIMEOUT_SECONDS, follow_redirects=True) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_bytes():
            content += chunk
            if len(content) > LARGEST:
                raise ValueError(f"the key set is larger than {LARGEST} bytes")
            if time.monotonic() > deadline:
                raise ValueError(f"the key set did not arrive within {TIMEOUT_SECONDS:g} seconds")
    keys = jwt.PyJWKSet.from_json(content.decode()).keys
    return {key.key_id: key.key for key in keys if key.key_id and key.public_key_use in ("sig", None)}
