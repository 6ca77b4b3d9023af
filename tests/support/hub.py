"""One who subscribes at the hub without a socket, and keeps what comes."""

from dataclasses import dataclass, field

from api.realtime.hub import Subscription
from api.realtime.stomp import SERVER, Frame, Parser
from core.models import Role


@dataclass(eq=False)
class Consumer:
    """Keeps what it is given."""

    frames: list[bytes] = field(default_factory=list)
    accounts: list[tuple[int, Role]] = field(default_factory=list)

    def deliver(self, frame: bytes) -> None:
        self.frames.append(frame)

    def account_changed(self, token_version: int, role: Role) -> None:
        self.accounts.append((token_version, role))

    def messages(self) -> list[Frame]:
        return list(Parser(0, commands=SERVER).feed(b"".join(self.frames)))

    def ids(self) -> list[int]:
        return [int(one.headers["message-id"]) for one in self.messages()]


def subscription(
    consumer: Consumer, key: str, id_: str = "s", role: Role = "admin", version: str = "1.2", ack: bool = False
) -> Subscription:
    return Subscription(consumer, id_, key, key, role, version, explicit_ack=ack)
