"""Names and imports: no name has an abandoned word, no class name occurs twice, no modules import each other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT

PACKAGES = ("core", "dispatcher", "flows", "api", "deployments")

# Words that are in no name of a module, package, class, function or template, each with what it once stood for here.
# Their other forms are in the list where they were used, too.
WORDS = {
    # SMTP and the mail queue
    "hand hands": "a sender; handed-in parts",
    "shop desk": "the completer and what it shares with senders",
    "line lines": "an SMTP transport",
    "tally": "statistics",
    "settle settles settled settling": "complete",
    "leave leaving": "a permit to send; withdrawing a notification",
    "may_begin": "acquire a permit to send",
    "judge judges judged judging": "a retry policy",
    "link links": "a circuit breaker",
    "away": "an open circuit; a server that cannot be reached",
    "look looks looked looking": "fetch what is due; check",
    "sweeping": "draining the queue",
    "tidy tidied": "rescue",
    "put_back": "requeue",
    "quick": "pipelined",
    "end ended": "the result of an attempt",
    "written": "a stored mail",
    # modules of core and what they did
    "asking asked": "enqueue, on demand, request",
    "making": "create, build",
    "reading": "queries",
    "queueing": "the mails of a session",
    "storing": "enqueue",
    "telling told tell tells": "notify, a notice",
    "occasion occasions": "notifications by the system",
    "missing": "the hourly run of reminders",
    "farewell": "a removal notice",
    "moving": "move",
    "changes": "apply moves",
    "booking": "schedule",
    "facts": "a snapshot of a session",
    # reports
    "figures": "charts, statistics",
    "house": "the system; the theme of charts",
    "shape shapes": "the data of a report",
    "chance": "significance",
    "words": "formatting; texts",
    "counting": "statistics",
    # demo data
    "lives": "the rows of a session",
    "tale tales": "past sessions",
    "waiting": "open sessions",
}

# Names, and parts of names, that may have such a word: in its everyday sense, or as a term of the field.
ALLOWED_NAMES = (
    "leave",  # a consumer leaves the hub: publish and subscribe
    "end",  # the verb: end a flow run
    "core.reports.charts.lines",  # line charts
)
ALLOWED = {
    "line": ("one_line", "line_chart", "line_label", "line_breaks", "line_limits"),  # of text, of a chart
    "lines": ("lines_or_parameters",),  # of a calendar file
    "link": (
        "create_link_artifact",
        "every_link",
        "invalid_link",
        "unsubscribe_link",
        "report_link",
        "build_link",
        "verify_link",
        "link_urls",
    ),  # URLs
    "links": ("links", "result_links", "unsubscribe_links", "session_links"),
    "end": (
        "end_all",
        "planned_end",
        "scheduled_end",
        "end_burst",
        "end_orphans",
        "end_stuck_runs",
    ),  # of a session; the verb
    "missing": ("plan_missing", "missing_days"),  # rows that do not exist yet
    "shape": ("rule_shape",),  # plotly's layout.shapes
    "words": ("encoded_words", "join_words"),  # RFC 2047; words of a sentence
}


def files(root: Path, *suffixes: str) -> Iterator[Path]:
    """The files of the packages and the tests, by their paths under the root."""
    for folder in (*PACKAGES, "tests"):
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix in suffixes:
                yield path.relative_to(root)


def names(root: Path) -> Iterator[tuple[Path, str]]:
    """Every name of a package, module, class, function and template: modules with their packages, joined by dots."""
    for path in files(root, ".py"):
        yield path, ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse((root / path).read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node.name
    for path in files(root, ".html", ".txt", ".css", ""):
        if "templates" in path.parts:
            yield path, ".".join(path.with_suffix("").parts)


def parts(name: str) -> str:
    """A name's parts in lower case, between underscores: dots, underscores and capitals separate them."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return f"_{re.sub(r'[._]+', '_', separated).strip('_')}_"


def abandoned_word(name: str) -> str | None:
    """The abandoned word in a name, if there is one."""
    if name in ALLOWED_NAMES or (name.startswith("__") and name.endswith("__")):  # the latter are Python's own
        return None
    for word in (word for forms in WORDS for word in forms.split()):
        rest = parts(name)
        for phrase in ALLOWED.get(word, ()):
            rest = rest.replace(parts(phrase), "_")
        if f"_{word}_" in rest:
            return word
    return None


def old_names(root: Path) -> list[str]:
    """Names with an abandoned word, as ``path: name (word)``."""
    found = []
    for path, name in names(root):
        if word := abandoned_word(name):
            found.append(f"{path}: {name} ({word})")
    return found


def class_names_twice(root: Path) -> set[str]:
    """Names of classes that occur more than once in the packages, at the top of a module."""
    seen: set[str] = set()
    twice: set[str] = set()
    for path in files(root, ".py"):
        if path.parts[0] != "tests":
            for node in ast.parse((root / path).read_text()).body:
                if isinstance(node, ast.ClassDef):
                    (twice if node.name in seen else seen).add(node.name)
    return twice


def imports(root: Path) -> dict[str, set[str]]:
    """Which modules of the packages each imports, in functions and under TYPE_CHECKING too."""
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path
        for path in files(root, ".py")
        if path.parts[0] != "tests"
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse((root / path).read_text())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                # a name is a module of the package, or else something in the package itself
                full = {f"{node.module}.{alias.name}" for alias in node.names}
                wanted |= full if full <= modules.keys() else (full & modules.keys()) | {str(node.module)}
        graph[module] = (wanted & modules.keys()) - {module}
    return graph


def import_cycles(graph: dict[str, set[str]]) -> list[str]:
    """The modules that import each other, directly or through others."""
    rest = {module: set(wanted) for module, wanted in graph.items()}
    while True:
        imported = set().union(*rest.values()) if rest else set()
        outside = {module for module, wanted in rest.items() if not wanted or module not in imported}
        if not outside:
            return sorted(rest)
        rest = {module: wanted - outside for module, wanted in rest.items() if module not in outside}


def test_no_name_has_an_abandoned_word() -> None:
    assert old_names(ROOT) == []


def test_no_class_name_occurs_twice() -> None:
    assert class_names_twice(ROOT) == set()


def test_no_modules_import_each_other() -> None:
    assert import_cycles(imports(ROOT)) == []


def test_every_allowed_phrase_is_of_a_listed_word() -> None:
    assert ALLOWED.keys() <= {word for forms in WORDS for word in forms.split()}


@pytest.mark.parametrize(
    ("path", "text", "name", "word"),
    [
        ("core/desk.py", "", "core.desk", "desk"),
        ("core/shapes/bar.py", "", "core.shapes.bar", "shapes"),
        ("api/x.py", "class MailHand:\n    pass\n", "MailHand", "hand"),
        ("api/x.py", "class X:\n    async def put_back(self):\n        pass\n", "put_back", "put_back"),
        ("flows/x.py", "def outer():\n    def _tell_who_was_told():\n        pass\n", "_tell_who_was_told", "told"),
        ("tests/test_x.py", "def test_the_line_and_one_line():\n    pass\n", "test_the_line_and_one_line", "line"),
        ("core/templates/mail/farewell/mail.html", "", "core.templates.mail.farewell.mail", "farewell"),
    ],
)
def test_a_planted_name_is_found(tmp_path: Path, path: str, text: str, name: str, word: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    assert old_names(tmp_path) == [f"{path}: {name} ({word})"]


def test_terms_of_the_field_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "x.py").write_text("def one_line(): ...\n\nclass Hub:\n    def leave(self): ...\n")
    assert old_names(tmp_path) == []


def test_a_planted_second_class_is_found(tmp_path: Path) -> None:
    for package in ("core", "api"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "x.py").write_text("class Sent:\n    pass\n")
    assert class_names_twice(tmp_path) == {"Sent"}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({"core/a.py": "from core import b", "core/b.py": "import core.a"}, ["core.a", "core.b"]),
        (
            {
                "core/a.py": "from core.b import X",
                "core/b.py": "def f():\n    from core import c",
                "core/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from core.a import Y",
                "core/d.py": "import core.a",
            },
            ["core.a", "core.b", "core.c"],
        ),
        ({"core/a.py": "from core import b, c", "core/b.py": "import core.c", "core/c.py": "import os"}, []),
    ],
)
def test_planted_cycles_are_found(tmp_path: Path, texts: dict[str, str], expected: list[str]) -> None:
    (tmp_path / "core").mkdir()
    for path, text in texts.items():
        (tmp_path / path).write_text(text)
    assert import_cycles(imports(tmp_path)) == expected
