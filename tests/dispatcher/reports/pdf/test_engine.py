"""The printer: what its PDFs are like, and how its browser comes and goes."""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from markupsafe import Markup

from core.reports.charts.fonts import FAMILIES
from core.reports.charts.plain import plain
from core.reports.document import Chart, Document
from core.settings import settings
from dispatcher.reports.pdf import FONTS, Engine, RenderFailed, find_browser
from tests.support.pdf_documents import bar_chart, document, line_chart, processes, read, text_of, undated

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]

NAMES = (
    "Zoë Ångström",
    "Đặng Thị Hoa",
    "Ольга Юрьевна",
    "محمد علي",
    "דוד לוי",
    "अनुष्का शर्मा",
    "สมชาย ใจดี",
    "王小明",
    "김철수",
    "😀",
)
"""In every script; the last three have no static TrueType."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("engine")))
        async with Engine(at_once=2) as engine:
            yield engine


def report(title: str = "Interview analytics, März") -> Document:
    """A report as they are: charts, headings, and a table over pages."""
    rows = "".join(f"<tr><td>{n}</td><td>{NAMES[n % 7]}</td></tr>" for n in range(150))
    body = (
        f"<h1>{title}</h1><h2>Numbers</h2><table><thead><tr><th>No</th><th>Name</th></tr></thead>"
        f"<tbody>{rows}</tbody></table><h2>Words</h2><p>The end.</p>"
    )
    return document(body, {"people": bar_chart(*map(plain, NAMES[:7])), "line": line_chart(1, 5, 2)}, title=title)


def fonts(pdf: bytes) -> dict[str, list[Any]]:
    """The fonts of all pages, by type."""
    found: dict[str, dict[int, Any]] = {}
    for page in read(pdf).pages:
        for reference in page["/Resources"].get("/Font", {}).values():
            font = reference.get_object()
            inner = font["/DescendantFonts"][0].get_object() if "/DescendantFonts" in font else font
            found.setdefault(inner["/Subtype"], {})[reference.idnum if hasattr(reference, "idnum") else id(font)] = (
                inner
            )
    return {kind: list(one.values()) for kind, one in found.items()}


async def test_a_report_is_tagged_titled_and_has_an_outline(engine: Engine) -> None:
    given = report()
    pdf = read(await engine.pdf(Document(given.title, given.charts, given.page, language="pt-PT")))
    root = pdf.root_object
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "pt-PT"
    assert pdf.metadata is not None
    assert pdf.metadata.title == "Interview analytics, März"
    [top] = [one for one in pdf.outline if not isinstance(one, list)]
    [below] = [one for one in pdf.outline if isinstance(one, list)]
    assert [top["/Title"], *(one["/Title"] for one in below)] == ["Interview analytics, März", "Numbers", "Words"]
    kinds = structure(root["/StructTreeRoot"])
    assert {"/H1", "/H2", "/Table", "/TH", "/TD", "/Figure"} <= set(kinds)
    assert kinds["/Figure"] == ["About people", "About line"]
    assert len(pdf.pages) > 2


def structure(node: Any, found: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    """The alternative texts of a tagged PDF's elements, by kind."""
    found = {} if found is None else found
    node = node.get_object() if hasattr(node, "get_object") else node
    if isinstance(node, list):
        for one in node:
            structure(one, found)
    elif isinstance(node, Mapping):
        if "/S" in node:
            found.setdefault(str(node["/S"]), []).append(str(node.get("/Alt", "")))
        if "/K" in node:
            structure(node["/K"], found)
    return found


async def test_charts_are_vectors_and_fonts_are_embedded_truetype(engine: Engine) -> None:
    pdf = await engine.pdf(report())
    assert all(not list(page.images) for page in read(pdf).pages)
    assert set(fonts(pdf)) == {"/CIDFontType2"}
    assert all("/FontFile2" in font["/FontDescriptor"] for font in fonts(pdf)["/CIDFontType2"])
    for name in NAMES[:3]:
        assert name in text_of(pdf)
    assert len(pdf) < 200_000


async def test_names_in_every_script_are_shown(engine: Engine) -> None:
    pdf = await engine.pdf(document("<p>" + ", ".join(NAMES) + "</p>", {"people": bar_chart(*map(plain, NAMES))}))
    for name in (*NAMES[:3], "สมชาย ใจดี", "王小明", "김철수", "😀"):
        assert text_of(pdf).count(name) == 2
    shown = {name.split("+")[-1] for name in re.findall(r"/FontName /(\S+)", pdf.decode("latin-1"))}
    scripts = {f"NotoSans{script}-Regular" for script in ("", "Arabic", "Hebrew", "Devanagari", "Thai")}
    assert scripts <= shown


async def test_the_same_document_gives_the_same_bytes(engine: Engine) -> None:
    first = await engine.pdf(report())
    await engine.pdf(document("<p>Something else</p>" * 50, {"x": line_chart(3, 2)}))
    again = await engine.pdf(report())
    assert undated(first) == undated(again)
    assert undated(first) != first
    async with Engine(at_once=1) as other:
        assert undated(await other.pdf(report())) == undated(first)


async def test_ids_of_charts_do_not_clash(engine: Engine) -> None:
    placed: dict[str, Markup] = {}

    def page(svgs: Mapping[str, Markup]) -> str:
        placed.update(svgs)
        return "".join(svgs.values())

    figure = line_chart(1, 3, 2)
    await engine.pdf(Document("A report", {name: Chart(figure, 300, 200) for name in ("one", "two", "a b")}, page))
    ids = {name: {part.split('"')[0] for part in svg.split(' id="')[1:]} for name, svg in placed.items()}
    assert all(ids.values())
    assert all(one.startswith(f"{name.replace(' ', '-')}-") for name, its in ids.items() for one in its)
    for svg in placed.values():
        used = {part.split(")")[0] for part in svg.split("url(#")[1:]}
        assert used
        assert used <= {part.split('"')[0] for part in svg.split(' id="')[1:]}
        assert 'width="300"' in svg and 'height="200"' in svg and 'role="img"' in svg


async def test_concurrent_reports_do_not_mix(engine: Engine) -> None:
    given = [document(f"<p>Text {n}.</p>", {"one": bar_chart(f"bar {n}", "x")}, title=f"Title {n}") for n in range(6)]
    for n, pdf in enumerate(await asyncio.gather(*map(engine.pdf, given))):
        assert f"Text {n}." in text_of(pdf) and f"bar {n}" in text_of(pdf)
        assert (data := read(pdf).metadata) is not None and data.title == f"Title {n}"


async def test_numbers_dates_and_gaps_in_charts(engine: Engine) -> None:
    figure = line_chart(1, float("nan"), float("inf"), 2)
    figure["data"][0]["x"] = [date(2026, 11, day) for day in (1, 2, 3, 4)]
    figure["data"].append({"mode": "text", "x": [date(2026, 11, 2)], "y": (Decimal("1.5"),), "texttemplate": "is %{y}"})
    assert "is 1.5" in text_of(await engine.pdf(document(figures={"one": figure})))


@pytest.mark.parametrize(
    "figure",
    [
        {"data": [{"type": "bar", "x": [object()]}]},
        {"data": 3, "layout": 4},
    ],
)
async def test_a_chart_that_cannot_be_drawn(engine: Engine, figure: dict[str, Any]) -> None:
    assert await engine.pdf(document())
    pid = engine.pid
    with pytest.raises(RenderFailed, match="The chart wrong ") as failed:
        await engine.pdf(document(figures={"good": line_chart(1, 2), "wrong": figure}))
    assert not failed.value.retry
    assert await asyncio.gather(*(engine.pdf(report()) for _ in range(2)))
    assert engine.pid == pid


async def test_a_page_that_cannot_be_rendered(engine: Engine) -> None:
    def page(_: object) -> str:
        raise LookupError("no such template")

    assert await engine.pdf(document())
    pid = engine.pid
    for _ in range(3):
        with pytest.raises(LookupError):
            await engine.pdf(Document("A report", {"one": Chart(line_chart(1), 300, 200)}, page))
    assert await engine.pdf(report())
    assert engine.pid == pid


async def test_an_idle_browser_exits_and_is_restarted() -> None:
    async with Engine(at_once=1, idle_seconds=0.05) as resting:
        assert resting.pid is None
        await resting.warm()
        while resting.pid is not None:  # noqa: ASYNC110 - the engine's own time
            await asyncio.sleep(0.02)
        assert (await resting.pdf(document())).startswith(b"%PDF")


@pytest.mark.parametrize("rule", [{"recycled": 1}, {"grown": -1}])
async def test_a_browser_is_replaced_in_time(rule: dict[str, int], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path))
        async with Engine(at_once=1, **rule) as replacing:
            pids = []
            for _ in range(2):
                await replacing.warm()
                pids.append(replacing.pid)
                assert await replacing.pdf(document())
        assert len(set(pids)) == 2
        assert all(one == two or one not in processes() for one, two in pairwise(pids))
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240


@pytest.mark.parametrize("at_once", [0, 6])
async def test_how_many_at_once(at_once: int) -> None:
    with pytest.raises(ValueError, match="1 to 5"):
        Engine(at_once=at_once)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settings that are read anew, and again afterwards."""
    settings.cache_clear()
    yield monkeypatch
    monkeypatch.undo()
    settings.cache_clear()


async def test_the_browser_that_is_set_is_used(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fresh.delenv("GREENROOM_BROWSER_PATH", raising=False)
    fresh.delenv("BROWSER_PATH", raising=False)
    found = find_browser()
    assert found is not None
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    for name in ("BROWSER_PATH", "GREENROOM_BROWSER_PATH"):
        fresh.setenv(name, str(mine))
        settings.cache_clear()
        assert find_browser() == mine
    mine.chmod(0o644)
    async with Engine() as engine:
        with pytest.raises(RenderFailed, match="chromium-headless-shell") as failed:
            await engine.pdf(document())
    assert str(mine) in str(failed.value)
    assert not failed.value.retry


async def test_the_fonts_named_are_those_of_the_packages() -> None:
    assert {*FAMILIES} <= {one.strip() for one in FONTS.split(",")}
