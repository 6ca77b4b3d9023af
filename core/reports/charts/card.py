"""Cards: a chart with its finding as title, and its unit below."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from markupsafe import Markup

from core.reports.document import Chart
from core.reports.formatting import FEW, count


@dataclass(frozen=True, slots=True)
class Card:
    """One finding and its chart; ``chart`` is None when the finding alone says it all."""

    key: str
    finding: Markup
    unit: str
    n: int
    chart: Chart | None = None
    wide: bool = False
    things: str = "session"

    @property
    def few(self) -> bool:
        """Whether n is too small for comparisons."""
        return 0 < self.n < FEW

    @property
    def basis(self) -> str:
        """The number of things that the finding is based on."""
        return count(self.n, self.things)


def chart_card(
    key: str,
    finding: Markup | str,
    unit: str,
    n: int,
    chart: Chart,
    numbers: Iterable[str],
    *,
    wide: bool = False,
    things: str = "session",
) -> Card:
    """A card with a chart, whose text alternative holds the finding and the numbers."""
    finding = finding if isinstance(finding, Markup) else Markup.escape(finding)
    alt = f"{finding.striptags()}. {unit}: {'; '.join(numbers)}."
    return Card(key, finding, unit, n, replace(chart, alt=alt[:_LONGEST]), wide, things)


_LONGEST = 1200
"""Characters of a chart's text alternative."""


def text_card(key: str, finding: Markup | str, unit: str, *, wide: bool = False) -> Card:
    """A card without a chart, for n = 1: a sentence says it all."""
    return Card(key, finding if isinstance(finding, Markup) else Markup.escape(finding), unit, 1, None, wide)


def empty_card(key: str, finding: str, unit: str, *, wide: bool = False) -> Card:
    """A card in place of an empty chart."""
    return Card(key, Markup.escape(finding), unit, 0, None, wide)
