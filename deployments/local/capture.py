"""The mail-capture server: accepts every mail and keeps it as a file; ``python -m deployments.local.capture``."""

import argparse
import asyncio
import itertools
import signal
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from core.clock import utcnow
from deployments.local import state

MAIL_BYTES = 50 * 1024 * 1024


class CaptureHandler:
    """Stores each mail as ``<time>-<number>.eml``, with its envelope in two header lines before its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = itertools.count(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  (aiosmtpd's)
        """Store the mail, then answer 250; with a full disk 451, so that the sender retries."""
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        head = f"X-Envelope-From: {envelope.mail_from}\r\nX-Envelope-To: {', '.join(envelope.rcpt_tos)}\r\n"
        name = f"{utcnow():%Y%m%dT%H%M%S.%f}Z-{next(self._number):04}.eml"
        try:
            state.write(self.folder / name, head.encode() + content)
        except OSError as error:
            print(f"could not keep a mail: {error}", file=sys.stderr, flush=True)
            return "451 could not keep the mail"
        print(f"{name} from {envelope.mail_from} to {', '.join(envelope.rcpt_tos)}", flush=True)
        return f"250 kept as {name}"


async def serve(folder: Path, host: str, port: int) -> None:
    """Accept mail until SIGTERM or SIGINT."""
    handler, ended = CaptureHandler(folder), asyncio.Event()
    loop = asyncio.get_running_loop()

    def connection() -> SMTP:
        # with a hostname: without one aiosmtpd resolves this machine's name at every connection
        return SMTP(handler, hostname="localhost", ident="Greenroom", enable_SMTPUTF8=True, data_size_limit=MAIL_BYTES)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(connection, host, port)
    await ended.wait()
    server.close()


def main() -> None:
    """Serve at the address and folder of the arguments; absent: of the settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.port is None or given.folder is None:
        from core.settings import settings  # 15 MB of memory that the stack, which gives both arguments, saves

        given.port = given.port or settings().capture_port
        given.folder = given.folder or settings().state_dir / "mail"
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(given.folder, given.host, given.port))


if __name__ == "__main__":
    main()
