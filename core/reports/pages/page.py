"""The page around a report's charts: one layout, and what every sheet says at its edges."""

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
    """A report of these cards: ``name`` says at every sheet's top what it is, ``title`` is the file's.

    The template finds each card by its key, and ``chart(card)`` gives its drawing.
    """
    charts = {card.key: card.chart for card in cards if card.chart is not None}
    edges = _edges(stamp, name)

    def page(drawn: Mapping[str, Markup]) -> str:
        return _template(f"{template}.html").render(
            view,
            title=title,
            edges=edges,
            fonts=Markup(FONTS),  # noqa: S704 - a constant
            stamp=stamp,
            span=formatting.span(stamp.period),
            as_of=formatting.moment(stamp.as_of, stamp.period.zone),
            cards={card.key: card for card in cards},
            drawn=drawn,
        )

    return Document(title, charts, page)


def _edges(stamp: Stamp, name: str) -> Mapping[str, Markup]:
    """What the margins of a sheet say, as strings of CSS."""
    period = stamp.period
    span = formatting.span(period)
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
    """Lines as a string of CSS that nothing in them can end."""
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
