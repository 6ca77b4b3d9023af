"""Markdown pages as the tests of the docs read them: headings, links, tables, code spans and fenced blocks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.M | re.S)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_SPAN = re.compile(r"`([^`\n]+)`")
_TRANSITION = re.compile(r"^\s*(\[\*\]|\w+) --> (\[\*\]|\w+)", re.M)


class Fence(NamedTuple):
    """A fenced block: its language and what is in it."""

    language: str
    text: str


class Page:
    """One page of the docs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.prose = _FENCE.sub("", self.text)

    def fences(self, language: str) -> list[str]:
        """The fenced blocks of a language, in order."""
        return [fence.text for fence in map(Fence._make, _FENCE.findall(self.text)) if fence.language == language]

    def links(self) -> list[str]:
        """Where every link and picture leads."""
        return _LINK.findall(self.prose)

    def spans(self) -> list[str]:
        """Every code span outside fenced blocks."""
        return _SPAN.findall(self.prose)

    def headings(self) -> list[str]:
        """Every heading, in order."""
        return _HEADING.findall(self.prose)

    def anchors(self) -> set[str]:
        """What a link may name behind ``#``, as GitHub makes it of the headings."""
        found: dict[str, int] = {}
        return set(_numbered(found, map(_slug, self.headings())))

    def section(self, heading: str) -> str:
        """A heading's own text, up to the next heading. Fails where there is no such heading."""
        parts = re.split(r"^#{1,6} (.+)$", self.text, flags=re.M)
        return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]

    def table(self, heading: str) -> list[dict[str, str]]:
        """The first table below a heading: a row's cells by the names of their columns, without backticks."""
        lines = [line for line in self.section(heading).splitlines() if line.startswith("|")]
        names, _, *rows = [[cell.strip().replace("`", "") for cell in line[1:-1].split("|")] for line in lines]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def transitions(self, heading: str) -> list[tuple[str, str]]:
        """The arrows of the first Mermaid state diagram below a heading; ``[*]`` is where it begins and ends."""
        language, text = _FENCE.findall(self.section(heading))[0]
        assert language == "mermaid", f"{self.path}: no diagram below {heading}"
        return _TRANSITION.findall(text)


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _numbered(found: dict[str, int], slugs: Iterator[str]) -> Iterator[str]:
    for slug in slugs:
        times = found[slug] = found.get(slug, -1) + 1
        yield f"{slug}-{times}" if times else slug
