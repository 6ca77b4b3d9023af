"""Reports of hostile text: shown as text, with nothing run, fetched or read."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from html import escape
from pathlib import Path

import pytest
import pytest_asyncio

from core.reports.charts.plain import plain
from dispatcher.reports.pdf import Engine, RenderFailed
from dispatcher.reports.pdf.sanitize_svg import clean
from tests.support.pdf_documents import bar_chart, document, line_chart, read, text_of

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]

SECRET = "SecretOfThisMachine"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="9" height="9">'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("safety")))
        async with Engine(at_once=1) as engine:
            yield engine


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A file's URL, whose content must not be printed."""
    (tmp_path / "secret.html").write_text(f"<p>{SECRET}</p>")
    (tmp_path / "secret.css").write_text(f"body::before{{content:'{SECRET}'}}")
    (tmp_path / "secret.svg").write_text(f"{SVG}<text id='s' y='9'>{SECRET}</text></svg>")
    return tmp_path.as_uri()


class Listener:
    """A server that nobody may speak to."""

    def __init__(self) -> None:
        self.connections = 0
        self.url = ""

    async def met(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest_asyncio.fixture(loop_scope="module")
async def listener() -> AsyncIterator[Listener]:
    listener = Listener()
    async with await asyncio.start_server(listener.met, "127.0.0.1", 0) as server:
        listener.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield listener
    assert listener.connections == 0


@pytest.mark.parametrize(
    "markup",
    [
        '<iframe src="{file}/secret.html"></iframe>',
        '<object data="{file}/secret.html"></object><embed src="{file}/secret.svg">',
        '<link rel="stylesheet" href="{file}/secret.css">',
        '<style>@import url("{file}/secret.css"); body{{background:url({file}/secret.svg)}}</style>',
        '<img src="{file}/secret.svg"><img src="x" srcset="{file}/secret.svg 1x">',
        '<svg><use href="{file}/secret.svg#s"/><image href="{file}/secret.svg" width="99" height="99"/></svg>',
        '<svg><foreignObject width="99" height="99"><iframe src="{file}/secret.html"></iframe></foreignObject></svg>',
        '<meta http-equiv="refresh" content="0;url={file}/secret.html">',
        '<base href="{file}/"><iframe src="secret.html"></iframe>',
        '<script>document.write("{secret}")</script><img src=x onerror="document.body.append(\'{secret}\')">',
        '<svg onload="document.body.append(\'{secret}\')"><script>document.write("{secret}")</script></svg>',
        '<iframe srcdoc="<iframe src={file}/secret.html></iframe><script>document.write(1)</script>"></iframe>',
        '<iframe src="data:text/html,{secret}"></iframe><object data="data:text/html,{secret}"></object>',
        '<iframe src="javascript:\'{secret}\'"></iframe><portal src="{file}/secret.html"></portal>',
    ],
)
async def test_pages_run_no_script_and_read_no_file(engine: Engine, secret: str, markup: str) -> None:
    pdf = await engine.pdf(document("<h1>Before</h1>" + markup.format(file=secret, secret=SECRET) + "<h2>After</h2>"))
    assert SECRET not in text_of(pdf)
    assert SECRET.encode() not in pdf
    assert "Before" in text_of(pdf)


@pytest.mark.parametrize(
    "markup",
    [
        '<img src="{url}/a.png"><img srcset="{url}/b.png 1x"><video poster="{url}/c.png" src="{url}/c.mp4"></video>',
        '<link rel="stylesheet" href="{url}/a.css"><link rel="preconnect prefetch" href="{url}">',
        '<style>@import "{url}/a.css"; @font-face{{font-family:F;src:url({url}/f)}} p{{font-family:F}}</style><p>F',
        '<p style="background:url({url}/a.png);list-style-image:url({url}/b.png)">styled</p>',
        '<iframe src="{url}"></iframe><object data="{url}"></object><embed src="{url}">',
        '<meta http-equiv="refresh" content="0;url={url}"><p>refreshed</p>',
        '<svg><image href="{url}/a.png" width="9" height="9"/><use href="{url}/a.svg#b"/></svg>',
        '<script src="{url}/a.js"></script><script>fetch("{url}")</script>',
    ],
)
async def test_pages_reach_no_network(engine: Engine, listener: Listener, markup: str) -> None:
    assert await engine.pdf(document(markup.format(url=listener.url)))


async def test_a_page_cannot_precede_our_policy(engine: Engine, secret: str, listener: Listener) -> None:
    given = document()

    def page(_: object) -> str:
        return (
            f'<iframe src="{secret}/secret.html"></iframe><img src="{listener.url}/a.png"><!doctype html><html><head>'
            '<meta http-equiv="Content-Security-Policy" content="default-src *"></head><body>Shown</body></html>'
        )

    pdf = await engine.pdf(type(given)("A report", {}, page))
    assert SECRET not in text_of(pdf)
    assert "Shown" in text_of(pdf)


async def test_charts_reach_no_network(engine: Engine, secret: str, listener: Listener) -> None:
    figure = line_chart(1, 3, 2)
    picture = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "sizex": 1, "sizey": 1}
    figure["layout"] = {
        "images": [{"source": f"{listener.url}/a.png", **picture}, {"source": f"{secret}/secret.svg", **picture}],
        "title": {"text": f'<a href="{listener.url}">linked</a><img src="{listener.url}/b.png">'},
        "font": {"family": f"x;background:url({listener.url}/c.png)"},
    }
    pdf = await engine.pdf(document(figures={"one": figure}))
    assert all("/Annots" not in page for page in read(pdf).pages)
    assert SECRET.encode() not in pdf


HOSTILE = (
    "<script>alert(1)</script>",
    '<a href="http://example.com">here</a>',
    "<b>bold</b> & <i>so</i>",
    "&lt;typed&gt; &amp;amp;",
    "%{x} of %{y:.2f}",
    "$\\alpha$",
    '"><iframe src=file:///etc/passwd>',
    "=1+1",
)


@pytest.mark.parametrize("text", HOSTILE)
async def test_plain_text_is_shown_verbatim_in_charts(engine: Engine, text: str) -> None:
    figure = bar_chart(plain(text), "other")
    figure["data"][0]["texttemplate"] = plain(text)
    figure["layout"] |= {
        "title": {"text": plain(text)},
        "annotations": [{"text": plain(text), "x": 1, "y": 0, "showarrow": False}],
    }
    given = document(f"<p>{escape(text)}</p>", {"one": figure})
    pdf = await engine.pdf(given)
    # On the axis, on two bars, in the title, in the annotation, and on the page; a reader guesses at spaces.
    assert text_of(pdf).replace(" ", "").count(text.replace(" ", "")) == 6
    assert all("/Annots" not in page for page in read(pdf).pages)


async def test_plain_text_drops_what_no_page_can_show(engine: Engine) -> None:
    assert plain("a\x00b\x1b[1m\u202edc\ud800\n\t e") == "ab[1mdc e"
    assert plain("0123456789", longest=5) == "0123…"
    assert plain("&&&&&&", longest=3) == "&amp;&amp;…"
    pdf = await engine.pdf(document(figures={"one": bar_chart(plain("a\x00\x0b\ufffe\ud800z"), "b")}))
    assert "az" in text_of(pdf)


@pytest.mark.parametrize(
    ("inside", "left"),
    [
        ("<script>alert(1)</script><g/>", "<g />"),
        ('<g onload="alert(1)" class="c" data-x="y" opacity="1"/>', '<g opacity="1" />'),
        ('<foreignObject><p xmlns="http://www.w3.org/1999/xhtml">x</p></foreignObject>', ""),
        ("<style>@import 'file:///etc/passwd'</style><animate attributeName='href'/><!-- c --><?p i?>", ""),
        ('<a xlink:href="http://x/"><text>t</text></a>', "<g><text>t</text></g>"),
        ('<text>a<a href="x">b</a>c</text>', "<text>a<tspan>b</tspan>c</text>"),
        ('<image xlink:href="http://x/a.png"/>', "<image />"),
        ('<image href="data:image/svg+xml;base64,AA=="/>', "<image />"),
        ('<image href="data:image/png;base64,AA=="/>', '<image href="data:image/png;base64,AA==" />'),
        ('<use xlink:href="#a"/><use href="file:///a.svg#b"/>', '<use href="#n-0" /><use />'),
        (
            "<path style=\"fill:red;clip-path:url('#a');mask:url(file:///a)\"/>",
            '<path style="fill:red;clip-path:url(#n-0)" />',
        ),
        ('<path fill="url(http://x/)" stroke="ur\\6c(http://x/)"/>', "<path />"),
        ('<clipPath id="a"/><g clip-path="url(#a)"/>', '<clipPath id="n-0" /><g clip-path="url(#n-0)" />'),
    ],
)
async def test_only_drawing_elements_remain_in_an_svg(inside: str, left: str) -> None:
    cleaned = clean(f"{SVG}{inside}</svg>", "n")
    assert cleaned[cleaned.index(">") + 1 if left else 0 :].removesuffix("</svg>") == left or not left
    if not left:
        assert cleaned.count("<") == 1


@pytest.mark.parametrize(
    "given",
    [
        "<html/>",
        "no xml",
        "<svg/>",
        f"{SVG}",
        f'<!DOCTYPE svg [<!ENTITY a "b">]>{SVG}<text>&a;</text></svg>',
    ],
)
async def test_invalid_svg_is_refused(given: str) -> None:
    with pytest.raises(RenderFailed, match="n came back"):
        clean(given, "n")
