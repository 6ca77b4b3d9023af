"""Tiles: one figure each, with its change against the period before and a sparkline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from core.reports import significance
from core.reports.data import Ratio, Totals, Wait, Week
from core.reports.formatting import FEW, UNDEFINED, hours, number, ratio

_WIDTH, _HEIGHT = 58, 18
_MOST = 40


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile; ``tone`` is good, bad or flat: only a statistically clear change is coloured."""

    label: str
    value: str
    basis: str = ""
    change: str = ""
    tone: str = "flat"
    few: bool = False
    spark: str = ""


def count_tile(label: str, now: int, then: int, course: Sequence[float], *, good: int = 0) -> Tile:
    """A count; a larger one is good (1), bad (-1) or neither (0)."""
    if then >= FEW:
        change = 100 * (now - then) / then
        change_text = _signed(change, number(round(abs(change), 1 if abs(change) < 99.5 else 0)) + "%")
    else:
        change_text = _signed(now - then, number(abs(now - then)))
    tone = _tone(now - then, good) if significance.counts_differ(now, then) else "flat"
    return Tile(
        label, number(now), f"{number(then)} before", change_text, tone, False, sparkline(course) if now >= FEW else ""
    )


def rate_tile(label: str, now: Ratio, then: Ratio, course: Sequence[Ratio], *, good: int = 1) -> Tile:
    """A ratio, with its change in percentage points."""
    basis = f"{number(now.part)} of {number(now.whole)}"
    few = 0 < now.whole < FEW
    if now.value is None:
        return Tile(label, UNDEFINED, "n = 0")
    values = [r.value if r.whole else None for r in course]
    if then.value is None:
        return Tile(label, ratio(now), basis, "", "flat", few, "" if few else sparkline(values))
    fine = min(now.whole, then.whole) >= 200
    points = round(100 * (now.value - then.value), 1 if fine else 0)
    tone = _tone(points, good) if significance.ratios_differ(now, then) else "flat"
    return Tile(
        label,
        ratio(now),
        basis,
        _signed(points, number(abs(points)) + " pt"),
        tone,
        few,
        "" if few else sparkline(values),
    )


def wait_tile(label: str, now: Wait, then: Wait, course: Sequence[Wait]) -> Tile:
    """A median duration; a shorter one is good."""
    if now.median is None:
        return Tile(label, UNDEFINED, "n = 0")
    basis = f"p90 {hours(now.p90)} · n = {number(now.n)}" if now.n > 1 else "n = 1"
    few, values = now.n < FEW, [w.median for w in course]
    if then.median is None:
        return Tile(label, hours(now.median), basis, "", "flat", few, "" if few else sparkline(values))
    change = now.median - then.median
    tone = _tone(change, -1) if significance.waits_differ(now, then) else "flat"
    change_text = _signed(change if abs(change) * 60 >= 0.5 else 0, hours(abs(change)))
    return Tile(label, hours(now.median), basis, change_text, tone, few, "" if few else sparkline(values))


@dataclass(frozen=True, slots=True)
class TileComparison:
    """Tiles that compare a period's totals with those of the period before, each with its weekly values."""

    now: Totals
    then: Totals
    weeks: Sequence[Week]

    def count_tile(self, label: str, of: Callable[[Totals], int], *, good: int = 0) -> Tile:
        """A count: see ``count_tile``."""
        return count_tile(label, of(self.now), of(self.then), [of(week.totals) for week in self.weeks], good=good)

    def rate_tile(self, label: str, of: Callable[[Totals], Ratio], *, good: int = 1) -> Tile:
        """A ratio: see ``rate_tile``."""
        return rate_tile(label, of(self.now), of(self.then), [of(week.totals) for week in self.weeks], good=good)

    def wait_tile(self, label: str, of: Callable[[Totals], Wait]) -> Tile:
        """A median duration: see ``wait_tile``."""
        return wait_tile(label, of(self.now), of(self.then), [of(week.totals) for week in self.weeks])


def fact_tile(label: str, value: str, basis: str = "", *, few: bool = False, tone: str = "flat") -> Tile:
    """A figure without comparison."""
    return Tile(label, value, basis, "", tone, few)


def sparkline(values: Sequence[float | None]) -> str:
    """A small line over the weeks without a scale; empty for fewer than four values."""
    size = -(-len(values) // _MOST) or 1
    points = [_mean(values[at : at + size]) for at in range(0, len(values), size)]
    known = [v for v in points if v is not None]
    if len(known) < 4:
        return ""
    low, high = min(known), max(known)
    if low == high:
        return ""
    scale = (_HEIGHT - 4) / (high - low)
    lines: list[list[str]] = [[]]
    for i, value in enumerate(points):
        if value is None:
            lines.append([])
            continue
        x = 2 + i * (_WIDTH - 4) / (len(points) - 1)
        y = _HEIGHT - 2 - (value - low) * scale
        lines[-1].append(f"{x:.1f},{y:.1f}")
    polylines = Markup("").join(Markup('<polyline points="{}"/>').format(" ".join(p)) for p in lines if len(p) > 1)
    return Markup(
        '<svg class="spark" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">{polylines}</svg>'
    ).format(w=_WIDTH, h=_HEIGHT, polylines=polylines)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def _signed(change: float, text: str) -> str:
    if not change:
        return "unchanged"
    return f"{'▲ +' if change > 0 else '▼ −'}{text}"


def _tone(change: float, good: int) -> str:
    if not change or not good:
        return "flat"
    return "good" if (change > 0) == (good > 0) else "bad"
