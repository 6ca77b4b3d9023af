"""Every kind of mail as Chromium shows it, at 360 and 800 pixels, light and dark: the pictures of docs/reference/mail.

``python -m bench.mail_pictures [FOLDER]`` (default docs/reference/mail) needs Debian's ``chromium-headless-shell`` or
BROWSER_PATH; ``pngquant`` makes the files smaller where it is installed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from websockets.sync.client import ClientConnection, connect

from core.emails.content import Recruiter, ReportNotice, SessionDetails, render, render_generic, render_report
from core.emails.draft import Attachment, Draft, Recipient

ROOT = Path(__file__).parent.parent
WIDTHS = (360, 800)
SCHEMES = ("light", "dark")
NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
BROWSERS = ("chromium-headless-shell", "/usr/lib/chromium/chromium-headless-shell", "chromium", "google-chrome")


MAYA = Recipient("maya@example.com", "Maya Lindqvist", "Europe/Lisbon", "candidate", 4)
IRIS = Recipient("iris@example.com", "Iris Okafor", "America/New_York", "interviewer", 3)
RITA = Recipient("rita@example.com", "Rita Sørensen", "Europe/Copenhagen", "other", 2)
START = datetime(2026, 11, 24, 14, tzinfo=UTC)
SESSION = SessionDetails(
    session_id=UUID("0192f0c1-7c1d-7b4e-9d61-3f2a8c5be001"),
    status="scheduled",
    title="Backend engineering",
    position="Backend Engineer",
    duration_minutes=60,
    resume_minutes=30,
    feedback_deadline_hours=48,
    scheduled_start=START,
    scheduled_end=START + timedelta(hours=1),
    schedule_version=1,
    invitation_expires_at=datetime(2026, 12, 7, 17, tzinfo=UTC),
    ended_at=None,
    ics_uid="0192f0c1-7c1d-7b4e-9d61-3f2a8c5be001@greenroom",
    ics_sequence=0,
    candidate=MAYA,
    interviewer=IRIS,
    recruiter=Recruiter("Rita Sørensen", "rita@example.com", deleted=False),
)


def samples() -> dict[str, Draft]:
    """One mail of each kind and variant, by the picture's name."""
    open_ = SESSION._replace(status="invited", scheduled_start=None, scheduled_end=None, interviewer=None)
    ended = SESSION._replace(status="completed", ended_at=START + timedelta(minutes=52))
    before = datetime(2026, 11, 20, 10, tzinfo=UTC)
    pdf = Attachment("dashboard-2026-11-22.pdf", "application/pdf", b"%PDF" + bytes(284_000))
    report = ReportNotice(
        title="Interview dashboard",
        start=datetime(2026, 11, 22, tzinfo=UTC),
        end=datetime(2026, 11, 23, tzinfo=UTC),
        data_as_of=datetime(2026, 11, 23, 6, tzinfo=UTC),
        files=(pdf,),
        daily=True,
    )
    letter = (
        "Dear Maya,\n\nThank you for the conversation last week. Before we meet again, please send us:\n\n"
        "- the name of a colleague who knows your work\n- the earliest day you could start\n\n"
        "How we hire is described at https://example.com/hiring.\n\nKind regards\nRita Sørensen"
    )
    return {
        "invitation": render("invitation", SESSION, MAYA, now=NOW),
        "invitation-open": render("invitation", open_, MAYA, now=NOW),
        "invitation-interviewer": render("invitation", SESSION, IRIS, now=NOW),
        "reschedule": render("reschedule", SESSION, MAYA, now=NOW, previous_start=before),
        "cancellation": render("cancellation", SESSION, MAYA, now=NOW, reason="The position is on hold until spring."),
        "reminder": render("reminder", SESSION, MAYA, now=NOW),
        "completion": render("completion", ended, MAYA, now=NOW),
        "report": render_report(report, RITA, now=NOW),
        "generic": render_generic(MAYA, subject="Two things before we meet again", text=letter),
    }


class Tab:
    """One tab of a browser, controlled over the DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number, self._session = socket, 0, ""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._frame = self("Page.getFrameTree")["frameTree"]["frame"]["id"]

    def __call__(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        request = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(request | ({"sessionId": self._session} if self._session else {})))
        while (answer := json.loads(self._socket.recv(timeout=30))).get("id") != self._number:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def shoot(self, html: str, width: int, scheme: str) -> bytes:
        """The whole page as a PNG. Fails when it is wider than the screen."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=640, deviceScaleFactor=1, mobile=False)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self("Page.setDocumentContent", frameId=self._frame, html=html)
        size = self("Page.getLayoutMetrics")["cssContentSize"]
        if size["width"] > width:
            raise RuntimeError(f"the mail is {size['width']} pixels wide on a screen of {width}")
        clip = {"x": 0, "y": 0, "width": width, "height": size["height"], "scale": 1}
        made = self("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return b64decode(made["data"])


@contextmanager
def browser() -> Iterator[Tab]:
    """A headless Chromium with one tab, ended when the block ends."""
    installed = (found for name in BROWSERS if (found := shutil.which(name)))
    program = os.environ.get("BROWSER_PATH") or next(installed, None)
    if program is None:
        raise SystemExit("no Chromium found; on Debian: apt-get install chromium-headless-shell, or set BROWSER_PATH")
    with tempfile.TemporaryDirectory() as profile:
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run")
        command = [program, *options, f"--user-data-dir={profile}"]
        # Debian's program is a script that starts the browser: its group is ended, else the browser would stay
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert process.stderr
            listening = next(line for line in process.stderr if "DevTools listening on " in line)
            with connect(listening.split(" on ")[1].strip(), max_size=None, proxy=None) as socket:
                yield Tab(socket)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main() -> None:
    """Make the pictures, and print the size of each."""
    os.environ.setdefault("GREENROOM_JWT_SECRET", "of the pictures only, thirty-two and more")
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "reference" / "mail"
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as tab:
        for name, draft in samples().items():
            for width in WIDTHS:
                for scheme in SCHEMES:
                    file = folder / f"{name}-{width}-{scheme}.png"
                    file.write_bytes(tab.shoot(draft.html or "", width, scheme))
                    if shutil.which("pngquant"):
                        smaller = ["pngquant", "--force", "--skip-if-larger", "--ext=.png", "64", str(file)]
                        subprocess.run(smaller, check=False)
                    print(f"{file.name}: {file.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    main()
