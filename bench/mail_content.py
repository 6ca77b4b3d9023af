"""How long rendering a mail and building its bytes take: ``python -m bench.mail_content``."""

import os
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from uuid import UUID

from bench.mail_pictures import NOW, SESSION
from core.emails import mime
from core.emails.content import render
from core.emails.draft import Draft

ROUNDS, BATCH = 5, 200


def micros(work: Callable[[], object]) -> float:
    """Microseconds a call: the best of a few rounds, so that other load on the machine counts least."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(BATCH):
            work()
        best = min(best, time.process_time() - begun)
    return best / BATCH * 1e6


def row(draft: Draft) -> SimpleNamespace:
    """The row that the queue would store for a draft."""
    return SimpleNamespace(
        id=UUID(int=1),
        to_address=draft.to_address,
        to_name=draft.to_name,
        reply_to=draft.reply_to,
        message_id="<1@localhost>",
        subject=draft.subject,
        text_body=draft.text,
        html_body=draft.html,
        headers=draft.headers,
        created_at=NOW,
    )


def main() -> None:
    """Measure each kind that is sent in large numbers."""
    os.environ.setdefault("GREENROOM_JWT_SECRET", "of this measurement only, thirty-two and more")
    kinds: tuple[str, ...] = ("completion", "reminder", "invitation", "reschedule", "cancellation")
    print(f"{'mail':12} {'rendered µs':>12} {'built µs':>10} {'bytes':>8}")
    for kind in kinds:
        draft = render(kind, SESSION, SESSION.candidate, now=NOW)
        rendered = micros(partial(render, kind, SESSION, SESSION.candidate, now=NOW))
        built = micros(partial(mime.build, row(draft), draft.attachments))
        size = len(mime.build(row(draft), draft.attachments))
        print(f"{kind:12} {rendered:12.0f} {built:10.0f} {size:8}")


if __name__ == "__main__":
    main()
