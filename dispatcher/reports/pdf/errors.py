"""The errors of printing a report."""

from core.errors import GreenroomError


class RenderFailed(GreenroomError):
    """A report could not be printed; with ``retry``, a later attempt may succeed."""

    def __init__(self, message: str, *, retry: bool) -> None:
        self.retry = retry
        super().__init__(message)


class TimeLimit(RenderFailed):
    """A report was not printed within its time limit."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"The report was not printed within {seconds:g} s.", retry=True)
