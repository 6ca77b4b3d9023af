"""Escapes people's text for plotly figures, so that it is shown as they wrote it."""

import re

_DROPPED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Characters that SVG cannot contain, or that change the direction of the text after them."""
_SPACE = re.compile(r"\s+")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(text: object, longest: int | None = None) -> str:
    """``text`` escaped for a figure, on one line; when longer than ``longest``, cut, with "…".

    Every text in a figure that comes from a person or a row must be escaped by this: plotly interprets ``<b>``,
    ``<a href>`` and entities in any text of a figure, and ``%{…}`` in its templates.
    """
    line = _SPACE.sub(" ", _DROPPED.sub("", str(text))).strip()
    if longest is not None and len(line) > longest:
        line = line[: longest - 1].rstrip() + "…"
    line = "".join(_ENTITIES.get(character, character) for character in line)
    # After the entities: templates are filled in before entities are read.
    return line.replace("%{", "%&#123;").replace("$", "&#36;")
