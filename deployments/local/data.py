"""Prepares the database: newest schema, demo data at the first start, tokens; ``python -m deployments.local.data``.

What ``greenroom migrate``, ``demo`` and ``token --demo`` do, in one process, because each imports for two seconds.
Prints a line for each step: «done NAME SECONDS», and «token ROLE EMAIL TOKEN».
"""

import sys
import time
from collections.abc import Callable

from core.migrations import migrate
from core.settings import settings
from deployments.demo import load
from deployments.tokens import demo_tokens


def main(*, with_demo: bool) -> None:
    """Run all steps; safe to repeat."""
    steps: dict[str, Callable[[], object]] = {"migrations": migrate, **({"demo": load} if with_demo else {})}
    for name, step in steps.items():
        begun = time.monotonic()
        step()
        print("done", name, f"{time.monotonic() - begun:.2f}")
    if settings().secret() is not None:  # else an external issuer creates them
        for token in demo_tokens():
            print("token", *token)


if __name__ == "__main__":
    main(with_demo="--demo" in sys.argv[1:])
