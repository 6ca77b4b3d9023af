"""What can go wrong when a report is printed."""

from core.errors import GreenroomError


class RenderFailed(GreenroomError):
    """A report could not be printed; with ``retry``, the same may well work a moment later."""

    def __init__(self, message: str, *, retry: bool) -> None:
        self.retry = retry
        super().__init__(message)


class TimeLimit(RenderFailed):
    """A report was not printed in the seconds it had."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"The report was not printed within {seconds:g} s.", retry=True)
