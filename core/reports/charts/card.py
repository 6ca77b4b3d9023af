"""A chart with what it says: the finding as its title, the unit below it."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from markupsafe import Markup

from core.reports.document import Chart
from core.reports.formatting import FEW, count


@dataclass(frozen=True, slots=True)
class Card:
    """One finding and its chart; without a chart there was nothing to draw, and the finding says so."""

    key: str
    finding: Markup
    unit: str
    n: int
    chart: Chart | None = None
    wide: bool = False
    things: str = "session"

    @property
    def few(self) -> bool:
        """Whether it rests on too little to be compared."""
        return 0 < self.n < FEW

    @property
    def basis(self) -> str:
        """What the finding rests on."""
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
    """A card whose chart tells its finding and its numbers to who cannot see it."""
    finding = finding if isinstance(finding, Markup) else Markup.escape(finding)
    alt = f"{finding.striptags()}. {unit}: {'; '.join(numbers)}."
    return Card(key, finding, unit, n, replace(chart, alt=alt[:_LONGEST]), wide, things)


_LONGEST = 1200
"""Characters of a chart's text alternative."""


def text_card(key: str, finding: Markup | str, unit: str, *, wide: bool = False) -> Card:
    """A card about one single thing: words say it, a chart would only pretend to more."""
    return Card(key, finding if isinstance(finding, Markup) else Markup.escape(finding), unit, 1, None, wide)


def empty_card(key: str, finding: str, unit: str, *, wide: bool = False) -> Card:
    """A card in place of an empty chart."""
    return Card(key, Markup.escape(finding), unit, 0, None, wide)
