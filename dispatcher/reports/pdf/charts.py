"""Charts to SVG: kaleido's page and plotly.js in a tab that stays open, where kaleido would load it for each chart."""

import asyncio
import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from markupsafe import Markup

from core.reports.charts.fonts import FONTS
from core.reports.document import Chart
from dispatcher.reports.pdf.browser import Browser
from dispatcher.reports.pdf.devtools import CommandRefused
from dispatcher.reports.pdf.errors import RenderFailed
from dispatcher.reports.pdf.sanitize_svg import clean

_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; script-src file:; '
    "style-src 'unsafe-inline'; img-src data: blob:\"><style>html{font-variant-ligatures:none}</style>"
)
_DRAW = "function(spec){return kaleido_scopes.plotly(JSON.parse(spec))}"
_READY = "typeof Plotly==='object'&&typeof kaleido_scopes==='object'"


class ChartTab:
    """A tab that draws one chart at a time."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self._browser, self._session, self._context = browser, session, context

    @classmethod
    async def open(cls, browser: Browser, page: Path) -> "ChartTab":
        """A tab with kaleido's page. Raises RenderFailed when that does not load."""
        call, event = browser.devtools.call, browser.devtools.event
        session = await browser.open_tab()
        await call("Page.enable", session)
        loaded = event("Page.loadEventFired", session)
        await call("Page.navigate", session, url=page.as_uri())
        await loaded
        ready = await call("Runtime.evaluate", session, expression=_READY)
        if ready["result"].get("value") is not True:
            raise RenderFailed("The browser did not load plotly.js: its installation may be damaged.", retry=False)
        context = (await call("Runtime.evaluate", session, expression="globalThis"))["result"]["objectId"]
        return cls(browser, session, context)

    async def draw(self, name: str, spec: str) -> str:
        """The SVG of a plotly figure. Raises RenderFailed for one that plotly refuses."""
        try:
            answer = await self._browser.devtools.call(
                "Runtime.callFunctionOn",
                self._session,
                objectId=self._context,
                functionDeclaration=_DRAW,
                arguments=[{"value": spec}],
                awaitPromise=True,
                returnByValue=True,
            )
        except CommandRefused as error:
            raise RenderFailed(f"The chart {name} was not drawn: {error}", retry=False) from error
        if wrong := answer.get("exceptionDetails"):
            message = wrong.get("exception", {}).get("description") or wrong.get("text", "")
            raise RenderFailed(f"The chart {name} was not drawn: {message.splitlines()[0]}", retry=False)
        given = answer["result"].get("value") or {}
        if given.get("code") != 0 or not isinstance(given.get("result"), str):
            raise RenderFailed(f"The chart {name} was not drawn: {given.get('message')}", retry=False)
        return str(given["result"])


def write_page(folder: Path) -> Path:
    """kaleido's page, with the installed plotly.js and nothing from a network."""
    from kaleido import PageGenerator  # noqa: PLC0415 - imports plotly

    page = PageGenerator(mathjax=False).generate_index().replace("<head>", f"<head>{_POLICY}", 1)
    path = folder / "charts.html"
    path.write_text(page)
    return path


async def draw(tabs: "asyncio.Queue[ChartTab]", charts: Mapping[str, Chart]) -> dict[str, Markup]:
    """Every chart's SVG, by name; as many at once as there are tabs.

    Raises RenderFailed, naming the chart, for one that cannot be drawn. A tab that was cancelled while drawing does not
    return to the queue: the browser has to be replaced.
    """
    specs = await asyncio.to_thread(lambda: {name: _spec(name, chart) for name, chart in charts.items()})

    async def one(name: str, chart: Chart) -> Markup:
        tab = await tabs.get()
        try:
            svg = await tab.draw(name, specs[name])
        except RenderFailed:
            tabs.put_nowait(tab)
            raise
        tabs.put_nowait(tab)
        # In a thread, while the tab draws the next chart.
        return await asyncio.to_thread(clean, svg, name, alt=chart.alt, font=FONTS)

    # Every chart is finished even when one fails, so that no tab is left in the middle of a chart.
    done = await asyncio.gather(*(one(name, chart) for name, chart in charts.items()), return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return dict(zip(charts, (result for result in done if isinstance(result, Markup)), strict=True))


def _spec(name: str, chart: Chart) -> str:
    spec = {"format": "svg", "width": chart.width, "height": chart.height, "scale": 1, "data": chart.figure}
    try:
        try:
            return json.dumps(spec, default=_to_json, separators=(",", ":"), allow_nan=False)
        except ValueError:
            return json.dumps(_finite(spec), default=_to_json, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RenderFailed(f"The chart {name} is not plain data: {error}", retry=False) from error


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "to_plotly_json"):
        return value.to_plotly_json()
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    raise TypeError(f"{type(value).__name__} in a figure")


def _finite(value: Any) -> Any:
    """NaN and infinities become null, which plotly draws as gaps."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
