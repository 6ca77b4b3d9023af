"""The HTML page of a report: one layout, and the text in the margins of every sheet."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from core.reports import formatting
from core.reports.charts.card import Card
from core.reports.charts.fonts import FONTS
from core.reports.data import Stamp
from core.reports.document import Document

_TEMPLATES = Path(__file__).parents[2] / "templates" / "reports"
CONFIDENTIAL = "Confidential"


def document(template: str, stamp: Stamp, *, name: str, title: str, cards: Sequence[Card], **view: Any) -> Document:
    """A report with these cards: ``name`` is printed at the top of every sheet, ``title`` is the PDF's.

    The template gets ``cards`` by key, and ``svgs``: each chart's SVG by the key of its card.
    """
    charts = {card.key: card.chart for card in cards if card.chart is not None}
    margins = _margins(stamp, name)

    def page(svgs: Mapping[str, Markup]) -> str:
        return _template(f"{template}.html").render(
            view,
            title=title,
            margins=margins,
            fonts=Markup(FONTS),  # noqa: S704 - a constant
            stamp=stamp,
            span=formatting.period_names(stamp.period),
            as_of=formatting.moment(stamp.as_of, stamp.period.zone),
            cards={card.key: card for card in cards},
            svgs=svgs,
        )

    return Document(title, charts, page)


def _margins(stamp: Stamp, name: str) -> Mapping[str, Markup]:
    """The texts in the margins of a sheet, as CSS strings."""
    period = stamp.period
    span = formatting.period_names(period)
    as_of = f"data as of {formatting.moment(stamp.as_of, period.zone)}"
    return {
        "name": _css(f"Greenroom · {name}"),
        "period": _css(span.title),
        "foot": _css(
            f"{CONFIDENTIAL} · {as_of} · n = {stamp.n:,} session{'' if stamp.n == 1 else 's'}",
            f"Period {span.interval}, {period.zone}",
        ),
    }


def _css(*lines: str) -> Markup:
    """Lines as one CSS string, escaped so that nothing in them can end it."""
    text = "\n".join(lines)
    return Markup('"{}"'.format("".join(_escaped(text))))  # noqa: S704 - only letters, digits and escapes are left


def _escaped(text: str) -> Iterator[str]:
    for c in text:
        yield c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}"


@lru_cache(maxsize=8)
def _template(name: str) -> Template:
    return _environment().get_template(name)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters |= {
        "number": formatting.number,
        "percent": formatting.ratio,
        "hours": formatting.hours,
        "minutes": formatting.minutes,
        "cut": formatting.shorten,
        "passage": formatting.passage,
    }
    found.globals |= {"day": formatting.day, "moment": formatting.moment, "count": formatting.count}
    return found
