"""A chart's SVG, made safe to embed in a page with others."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from markupsafe import Markup

from dispatcher.reports.pdf.errors import RenderFailed


def _names(written: str) -> frozenset[str]:
    return frozenset(written.split())


_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_ELEMENTS = _names(
    "svg g defs clipPath mask path rect circle ellipse line polyline polygon text tspan title desc image "
    "linearGradient radialGradient stop pattern use marker symbol"
)
_ATTRIBUTES = _names(
    "id d x y x1 y1 x2 y2 dx dy cx cy r rx ry fx fy width height points transform viewBox preserveAspectRatio "
    "offset style fill fill-opacity fill-rule clip-path clip-rule clipPathUnits mask maskUnits maskContentUnits "
    "opacity stroke stroke-width stroke-opacity stroke-dasharray stroke-dashoffset stroke-linecap "
    "stroke-linejoin stroke-miterlimit stop-color stop-opacity gradientUnits gradientTransform spreadMethod "
    "patternUnits patternContentUnits patternTransform markerWidth markerHeight markerUnits marker-start "
    "marker-mid marker-end refX refY orient vector-effect shape-rendering text-anchor text-decoration "
    "dominant-baseline font-family font-size font-style font-weight letter-spacing textLength lengthAdjust "
    "display visibility"
)
_UNWRAPPED = frozenset({"a"})
"""Elements that are replaced by their content."""
_PICTURE = re.compile(r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=\s]*")
_URL = re.compile(r"""url\(\s*['"]?([^'")]*)['"]?\s*\)""", re.IGNORECASE)
_UNSAFE = re.compile(r"url\s*\(|image-set|@import|expression|javascript:|\\|/\*", re.IGNORECASE)


def clean(svg: str, name: str, *, alt: str = "", font: str = "") -> Markup:
    """The SVG with drawing elements only: no scripts, links, event handlers or URLs, and ids that begin with ``name``.

    The same chart gives the same text. ``font`` is the family to set once on the root.
    Raises RenderFailed for what is no SVG.
    """
    if "<!DOCTYPE" in svg or "<!ENTITY" in svg:
        raise RenderFailed(f"The chart {name} came back with a DOCTYPE.", retry=False)
    try:
        root = ET.fromstring(svg.encode("utf-8", "replace"))  # noqa: S314 - no entities: checked above
    except ET.ParseError as error:
        raise RenderFailed(f"The chart {name} came back as no SVG: {error}", retry=False) from error
    if root.tag != f"{{{_SVG}}}svg":
        raise RenderFailed(f"The chart {name} came back as no SVG.", retry=False)
    ids = _Ids(name)
    kept = _kept(root, ids, font)
    kept.set("xmlns", _SVG)
    kept.set("role", "img")
    if font:
        kept.set("font-family", font)
    if alt:
        kept.set("aria-label", alt)
    return Markup(ET.tostring(kept, encoding="unicode"))  # noqa: S704 - it has only what is listed above


class _Ids:
    """New ids for old, numbered in order of appearance: plotly's are random, and collide between charts."""

    def __init__(self, name: str) -> None:
        self._name = re.sub(r"[^A-Za-z0-9_-]", "-", name)
        self._known: dict[str, str] = {}

    def __getitem__(self, old: str) -> str:
        return self._known.setdefault(old, f"{self._name}-{len(self._known)}")


def _kept(element: ET.Element, ids: _Ids, font: str) -> ET.Element:
    kept = ET.Element(_local(element.tag), dict(_attributes(element, ids, font)))
    kept.text, kept.tail = element.text, element.tail
    _fill(kept, element, ids, font)
    return kept


def _fill(kept: ET.Element, element: ET.Element, ids: _Ids, font: str) -> None:
    for child in element:
        name = _local(child.tag)
        if name in _UNWRAPPED:
            inner = ET.Element("tspan" if kept.tag in ("text", "tspan") else "g")
            inner.text, inner.tail = child.text, child.tail
            _fill(inner, child, ids, font)
            kept.append(inner)
        elif name in _ELEMENTS:
            kept.append(_kept(child, ids, font))
        elif child.tail and child.tail.strip():
            kept.append(_tail(kept, child.tail))


def _tail(kept: ET.Element, tail: str) -> ET.Element:
    text = ET.Element("tspan" if kept.tag in ("text", "tspan") else "g")
    text.tail = tail
    return text


def _local(tag: object) -> str:
    """The name without the namespace; "" for other namespaces, comments and processing instructions."""
    prefix = f"{{{_SVG}}}"
    return tag[len(prefix) :] if isinstance(tag, str) and tag.startswith(prefix) else ""


def _attributes(element: ET.Element, ids: _Ids, font: str) -> Iterator[tuple[str, str]]:
    for name, value in element.attrib.items():
        if name in ("href", f"{{{_XLINK}}}href"):
            if value.startswith("#"):
                yield "href", f"#{ids[value[1:]]}"
            elif _local(element.tag) == "image" and _PICTURE.fullmatch(value):
                yield "href", value
        elif name == "id":
            yield name, ids[value]
        elif name == "style":
            if style := _style(value, ids, font):
                yield name, style
        elif name in _ATTRIBUTES and (safe := _safe(value, ids)) is not None:
            yield name, safe


def _style(value: str, ids: _Ids, font: str) -> str:
    kept = []
    for declaration in value.split(";"):
        name, colon, given = declaration.partition(":")
        name, given = name.strip(), given.strip()
        if not colon or (name == "font-family" and given.replace('"', "") == font):
            continue
        if (safe := _safe(given, ids)) is not None:
            kept.append(f"{name}:{safe}")
    return ";".join(kept)


def _safe(value: str, ids: _Ids) -> str | None:
    """The value with its references renamed; None when it refers to anything outside the SVG."""
    found = _URL.findall(value)
    if any(not one.startswith("#") for one in found) or _UNSAFE.search(_URL.sub("", value)):
        return None
    return _URL.sub(lambda match: f"url(#{ids[match[1][1:]]})", value) if found else value
