"""Pages as they are printed by the real browser: what stands on each, in which fonts, and that hostile text is text."""

import asyncio
import io
import re
from collections.abc import Mapping
from typing import Any
from unicodedata import normalize

import pytest
from pypdf import PdfReader

from core.reports import candidate, dashboard, interview
from core.reports.document import Document
from dispatcher.reports.pdf import Engine
from tests.support import report_samples as samples

pytestmark = pytest.mark.servers

LONG = "Wolfeschlegelsteinhausenbergerdorff" * 4
KINDS = ("dashboard", "interview", "candidate")


def documents() -> dict[str, Document]:
    """The three reports: of every size, with hostile names, and of one day."""
    made = {}
    for n in samples.SIZES:
        made[f"dashboard-{n}"] = dashboard.lay_out(samples.dashboard(n))
    for n in (0, 1, 480):
        made[f"interview-{n}"] = interview.lay_out(samples.interview(n))
    for n in (0, 1, 12):
        made[f"candidate-{n}"] = candidate.lay_out(samples.candidate(n))
    hostile = samples.HOSTILE
    made["dashboard-hostile"] = dashboard.lay_out(samples.dashboard(60, names=hostile, positions=hostile))
    made["interview-hostile"] = interview.lay_out(samples.interview(60, title=hostile[0], questions=28, names=hostile))
    made["candidate-hostile"] = candidate.lay_out(
        samples.candidate(9, name=f"{hostile[1]} {LONG}", names=hostile, title=hostile[2])
    )
    made["dashboard-day"] = dashboard.lay_out(samples.dashboard(40, days=1))
    return made


@pytest.fixture(scope="module")
def printed() -> Mapping[str, bytes]:
    """All of them as PDF."""

    async def run() -> dict[str, bytes]:
        found = documents()
        async with Engine() as engine:
            made = await asyncio.gather(*(engine.pdf(document, seconds=120) for document in found.values()))
        return dict(zip(found, made, strict=True))

    return asyncio.run(run())


@pytest.fixture(scope="module")
def pages(printed: Mapping[str, bytes]) -> Mapping[str, list[str]]:
    """The text of every page."""
    return {
        name: [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(pdf)).pages]
        for name, pdf in printed.items()
    }


def test_every_page_has_period_zone_as_of_n_and_number(pages: Mapping[str, list[str]]) -> None:
    for name, texts in pages.items():
        for number, text in enumerate(texts, 1):
            assert re.search(r"Period \[\d+ \w{3} 20\d\d, 23 Nov 2026\), Europe/Copenhagen", text), (name, number)
            assert "data as of 23 Nov 2026 07:00" in text, (name, number)
            assert re.search(r"n = [\d,]+ sessions?\b", text), (name, number)
            assert f"{number} / {len(texts)}" in text, (name, number)
            assert "Confidential" in text, (name, number)


@pytest.mark.parametrize(
    ("name", "sections"),
    [
        (
            "dashboard-480",
            [
                *("Sessions planned", "Show rate", "No-show rate", "Held rate", "Completion", "Invite conversion"),
                *("Pass rate", "Feedback in time", "time to hire", "scheduling delay", "time to decision"),
                *("One session in 13 is hired", "completed, 7.9% no-shows", "Show rate 91.6%", "58.1% passed"),
                *("Medians of 5 positions", "of feedback is in by the deadline", "deadline, median 2 d"),
                *("held the most: 62 sessions", "Busiest hour", "30 things need attention", "Feedback overdue"),
                *("Reminders in time", "Mails sent", "Mails dead", "Mails uncertain", "Late runs"),
            ],
        ),
        (
            "interview-480",
            [
                *(
                    "Outcomes",
                    "77.5% of sessions were completed",
                    "pass 62",
                    "stopped before it",
                    "Questions earn 45% to 77% of their points",
                ),
                *("Skills earn", "AI scores 3.0 pt higher than people", "takes longest", "Discrim.", "optional"),
            ],
        ),
        (
            "candidate-12",
            [
                *("Maya Lindqvist", "sessions completed", "scored sessions passed", "pass 65", "above the median"),
                *(
                    "median of 40 others",
                    "Strong yes",
                    "after the deadline",
                    "Scored by",
                    "Person",
                    "Show rate",
                    "no-show",
                ),
            ],
        ),
    ],
)
def test_a_report_has_all_required_content(pages: Mapping[str, list[str]], name: str, sections: list[str]) -> None:
    text = " ".join(pages[name])
    for section in sections:
        assert section in text, section


def test_empty_sections_are_omitted(pages: Mapping[str, list[str]]) -> None:
    for name, texts in pages.items():
        assert not re.search(r"\bnan\b|\bNone\b(?! of)|\binf\b|Undefined|\{\{", " ".join(texts)), name
    for kind in KINDS:
        text = " ".join(pages[f"{kind}-0"])
        assert "0%" not in text.replace("100%", "")
        assert re.search(r"No session", text)


def test_lengths_and_sizes(printed: Mapping[str, bytes], pages: Mapping[str, list[str]]) -> None:
    assert len(pages["dashboard-480"]) == 5
    assert len(pages["dashboard-100000"]) == 5
    assert len(pages["interview-480"]) == 3
    assert max(len(pages[f"{kind}-0"]) for kind in KINDS) <= 2
    assert all(len(pdf) < 500_000 for pdf in printed.values())


def test_tagged_titled_bookmarked_and_in_a_language(printed: Mapping[str, bytes]) -> None:
    for name, pdf in printed.items():
        reader = PdfReader(io.BytesIO(pdf))
        root: Any = reader.trailer["/Root"]
        assert root["/Lang"] == "en", name
        assert root["/MarkInfo"]["/Marked"], name
        assert reader.metadata is not None and reader.metadata.title, name
        assert len(outline(reader.outline)) >= 4, name
        assert all(page.mediabox.width == pytest.approx(595, abs=1) for page in reader.pages), name


def test_charts_are_vectors_with_alt_text(printed: Mapping[str, bytes]) -> None:
    reader = PdfReader(io.BytesIO(printed["dashboard-480"]))
    alternatives = [alt for alt in alts(reader.trailer["/Root"]["/StructTreeRoot"]) if ":" in alt]  # type: ignore[index]
    assert len(alternatives) == 13
    assert any("hired" in alt and "480" in alt for alt in alternatives)
    for page in PdfReader(io.BytesIO(printed["interview-480"])).pages:
        assert not list(page.images)


def test_fonts_are_embedded_as_outlines(printed: Mapping[str, bytes]) -> None:
    for name in ("dashboard-480", "candidate-12", "interview-hostile"):
        fonts = {}
        for page in PdfReader(io.BytesIO(printed[name])).pages:
            for font in page["/Resources"].get("/Font", {}).values():  # type: ignore[attr-defined]
                found = font.get_object()
                fonts[found.get("/BaseFont", "Type 3")] = found
        for title, font in fonts.items():
            if font["/Subtype"] == "/Type0":
                descriptor = font["/DescendantFonts"][0].get_object()["/FontDescriptor"]
                assert {"/FontFile2", "/FontFile3"} & set(descriptor), title
        assert any("NotoSans-Regular" in title for title in fonts), name


def test_names_in_every_script_can_be_copied(pages: Mapping[str, list[str]]) -> None:
    """As sets of characters: text from right to left comes in the order in which it is drawn, and a sign that joins
    several letters as some of them."""
    text = set(normalize("NFKC", "".join(pages["dashboard-480"])))
    for name in samples.NAMES:
        letters = {c for c in name if c.isalpha()}
        assert len(letters & text) >= 0.6 * len(letters), (name, letters - text)


def test_hostile_names_are_shown_verbatim(pages: Mapping[str, list[str]]) -> None:
    for kind in KINDS:
        text = "".join(pages[f"{kind}-hostile"]).replace(" ", "")
        assert "<script>alert(1)</script>" in text
        assert '<iframesrc="file:///etc/passwd"></iframe>' in text
        assert "root:x:0" not in text
        assert "${7*7}%{y}<b>bold</b>" in text
        assert "\u202e" not in text


def test_no_heading_is_alone_at_the_bottom_of_a_page(printed: Mapping[str, bytes]) -> None:
    for name, pdf in printed.items():
        reader = PdfReader(io.BytesIO(pdf))
        for one in outline(reader.outline):
            top = one.top
            assert top is None or float(top) > 100, (name, one.title)


def outline(found: list[Any]) -> list[Any]:
    """All bookmarks, of every level."""
    return [one for item in found for one in (outline(item) if isinstance(item, list) else [item])]


def alts(node: Any) -> list[str]:
    """The alternative texts of a structure tree."""
    node = node.get_object()
    if isinstance(node, list):
        return [alt for kid in node for alt in alts(kid)]
    if not hasattr(node, "get"):
        return []
    own = [str(node["/Alt"])] if "/Alt" in node else []
    kids = node.get("/K")
    return own + (alts(kids) if kids is not None and "/Type" not in node.get("/Pg", {}).get("/K", {}) else [])
