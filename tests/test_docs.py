"""What the docs say is true: links lead somewhere, paths exist, and lists of the domain are the code's."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from sqlalchemy import CheckConstraint

from core.emails.kinds import KINDS
from core.emails.queue.outcomes import DELAYS
from core.events import PushEvent
from core.models import STATUSES, Base
from core.preferences import CATEGORIES, may_turn_off
from core.reports.registry import REPORTS
from core.sessions.moves import MOVES
from core.sessions.notices import RECIPIENTS
from deployments.cli import app
from tests.support.markdown import Page
from tests.support.processes import ROOT

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted(DOCS.rglob("*.md")),
]
PACKAGES = ("core", "flows", "dispatcher", "api", "deployments", "bench", "tests")
FOLDERS = (*PACKAGES, "docs", ".ci")
FIXED = ("docs/benchmarks.md", "docs/dependencies.md", "docs/spring.md", "docs/index.md")
"""Other documents name these paths."""

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module")
def domain() -> Page:
    return Page(DOCS / "domain.md")


# every page


@every_page
def test_every_link_leads_somewhere(path: Path) -> None:
    page = Page(path)
    assert [link for link in page.links() if not _leads_somewhere(page, link)] == []


def _leads_somewhere(page: Page, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return True  # another host's page
    file, _, anchor = link.partition("#")
    target = (page.path.parent / unquote(file)).resolve() if file else page.path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or (target.suffix == ".md" and anchor in Page(target).anchors())


@every_page
def test_every_path_in_backticks_exists(path: Path) -> None:
    assert [span for span in Page(path).spans() if _is_path(span) and not _found(span)] == []


def _is_path(span: str) -> bool:
    """Whether it looks like a path of this repository; one with NAME in it, or braces, is a pattern."""
    known = re.fullmatch(rf"({'|'.join(map(re.escape, FOLDERS))})(/[\w.*-]+)*/?", span)
    return known is not None and "/" in span and "NAME" not in span


def _found(span: str) -> bool:
    return any(ROOT.glob(span.rstrip("/"))) if "*" in span else (ROOT / span).exists()


@every_page
def test_every_dotted_name_in_backticks_exists(path: Path) -> None:
    named = [span for span in Page(path).spans() if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", span)]
    assert [name for name in named if not _resolves(name)] == []


def _resolves(name: str) -> bool:
    """Whether it is a module, or something that a module has."""
    module, *rest = _longest_module(name)
    found: Any = importlib.import_module(module)
    for part in rest:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True


def _longest_module(name: str) -> tuple[str, ...]:
    parts = name.split(".")
    module = parts.pop(0)
    while parts and find_spec(f"{module}.{parts[0]}") is not None:
        module += f".{parts.pop(0)}"
        if (spec := find_spec(module)) is None or spec.submodule_search_locations is None:
            break
    return (module, *parts)


@every_page
def test_every_command_exists(path: Path) -> None:
    page = Page(path)
    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    said = [*page.spans(), *(line for text in page.fences("") for line in text.splitlines())]
    greenroom = [found[1] for span in said for found in re.finditer(r"(?:^|[\s/(])greenroom ([a-z]+)", span)]
    assert [name for name in greenroom if name not in commands] == []
    modules = [found[1] for span in said for found in re.finditer(r"python -m ((?:bench|deployments)[\w.]*)", span)]
    assert [module for module in modules if find_spec(module) is None] == []


def test_what_code_cites_of_the_docs_is_there() -> None:
    for file in (path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")):
        for path, heading in re.findall(r"(docs/[\w/-]+\.md)(?:, \"([^\"]+)\")?", file.read_text()):
            assert (ROOT / path).is_file(), f"{file}: {path}"
            assert not heading or heading in Page(ROOT / path).headings(), f"{file}: {path}, {heading}"


def test_every_page_is_in_the_index() -> None:
    index = Page(DOCS / "index.md")
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in index.links() if ":" not in link}
    assert [str(path) for path in sorted(DOCS.rglob("*.md")) if path not in {*linked, index.path}] == []


@pytest.mark.parametrize("path", FIXED)
def test_pages_that_others_name_stay_where_they_are(path: str) -> None:
    assert (ROOT / path).is_file()


# files of the repository itself


def test_the_hooks_run_what_make_lint_runs() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert recipe is not None
    lines = [line.strip().lstrip("@") for line in recipe[1].splitlines()]
    ran = [line.replace("$(RUN)", ".venv/bin/").partition(" > ")[0] for line in lines if line.startswith("$(RUN)")]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == ran
    for hook in local["hooks"]:
        assert (hook["language"], hook["pass_filenames"], hook["always_run"]) == ("system", False, True), hook["id"]


def test_the_layers_of_core_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    inside = next(one["layers"] for one in contracts if one["type"] == "layers" and "core.models" in one["layers"])
    checked = [sorted(layer.split(" | ")) for layer in inside]
    rows = Page(DOCS / "architecture.md").table("Layers")
    listed = [
        [name.rstrip("/").removesuffix(".py").replace("/", ".") for name in row["modules"].split(", ")] for row in rows
    ]
    assert [sorted(layer) for layer in listed] == checked


# the domain


def _allowed(table: str, column: str) -> set[str]:
    """The values that a table's check lets into a column."""
    checks = [c for c in Base.metadata.tables[table].constraints if isinstance(c, CheckConstraint)]
    listed = next(str(c.sqltext) for c in checks if str(c.sqltext).startswith(f"{column} IN ("))
    return set(re.findall(r"'(\w+)'", listed))


def test_the_table_of_moves_is_the_codes(domain: Page) -> None:
    rows = domain.table("The table of moves")
    listed = {(row["from"], row["to"]): frozenset(row["who may"].split(", ")) for row in rows}
    assert listed == MOVES
    assert len(rows) == len(MOVES)


def test_the_diagram_of_sessions_shows_the_moves(domain: Page) -> None:
    arrows = domain.transitions("Session states")
    between = [arrow for arrow in arrows if "[*]" not in arrow]
    assert set(between) == set(MOVES)
    assert len(between) == len(MOVES)
    assert {to for begin, to in arrows if begin == "[*]"} == {"invited", "scheduled"}
    final = set(STATUSES) - {begin for begin, _ in MOVES}
    assert {begin for begin, to in arrows if to == "[*]"} == final


def test_every_table_of_the_database_is_listed(domain: Page) -> None:
    listed = [row["table"] for row in domain.table("Tables")]
    assert sorted(listed) == sorted(Base.metadata.tables)


@pytest.mark.parametrize(
    ("heading", "table"), [("Session states", "sessions"), ("Mail states", "emails"), ("Report states", "reports")]
)
def test_a_diagram_has_every_state_and_no_other(domain: Page, heading: str, table: str) -> None:
    states = {state for arrow in domain.transitions(heading) for state in arrow} - {"[*]"}
    assert states == _allowed(table, "status")


def test_mail_kinds_and_report_types_are_the_codes(domain: Page) -> None:
    assert {row["kind"] for row in domain.table("Mail")} == set(KINDS)
    assert {row["type"] for row in domain.table("Reports")} == set(REPORTS)


def test_who_is_notified_is_what_the_code_says(domain: Page) -> None:
    rows = {row["category"]: row for row in domain.table("Who is notified")}
    for category, parties in RECIPIENTS.items():
        notified = {
            party for party in ("candidate", "interviewer", "recruiters") if "notification" in rows[category][party]
        }
        assert notified == set(parties), category
    admins = {name for name, found in CATEGORIES.items() if found.roles == ("admin",)}
    assert {category for category, row in rows.items() if row["admins"] == "notification"} == admins
    by_mail = {name for name, found in CATEGORIES.items() if "email" in found.channels}
    of_sessions = {category for category, row in rows.items() if "mail" in ", ".join(row.values()).split(", ")}
    assert of_sessions == by_mail & rows.keys()


def test_preferences_are_the_codes(domain: Page) -> None:
    rows = {row["category"]: row for row in domain.table("Preferences")}
    assert rows.keys() == CATEGORIES.keys()
    for name, category in CATEGORIES.items():
        assert sorted(rows[name]["for"].split(", ")) == sorted(category.roles), name
        assert sorted(rows[name]["channels"].split(", ")) == sorted(category.channels), name
        can = [role for role in category.roles if may_turn_off(name, role)]
        begins = "yes" if can == list(category.roles) else f"by {', '.join(can)}s" if can else "no"
        assert rows[name]["can be turned off"].startswith(begins), name


def test_the_delays_of_mail_are_the_codes(domain: Page) -> None:
    minutes = ", ".join(str(delay // timedelta(minutes=1)) for delay in DELAYS)
    assert f"are {minutes} minutes" in domain.section("What becomes of an attempt")


def _events(of: type[PushEvent]) -> Iterator[type[PushEvent]]:
    for event in of.__subclasses__():
        yield event
        yield from _events(event)


def test_every_push_type_is_listed() -> None:
    live = Page(DOCS / "reference" / "live-updates.md")
    types = {event.type for event in _events(PushEvent) if "type" in vars(event) and event.__module__ == "core.events"}
    listed = {row["type"] for row in live.table("Messages")}
    assert types - {"account.changed"} == listed - {"error", "resync"}
