"""Recipes of the docs: the steps of a page as diffs, a copy of the tree to apply them to, and a check in that copy."""

import os
import re
import shutil
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.markdown import Page
from tests.support.processes import ROOT

RECIPES = ("job", "report", "push", "mail")
_STEP = re.compile(r"^## (\d+)\. (.+?)\n(.*?)(?=^## |\Z)", re.M | re.S)
_DIFF = re.compile(r"^```diff\n(.*?)^```$", re.M | re.S)
_FILE = re.compile(r"^--- (?:a/(\S+)|/dev/null)\n\+\+\+ \S+\n(.*?)(?=^diff |\Z)", re.M | re.S)
_HUNK = re.compile(r"^@@ .*\n", re.M)


class Step(NamedTuple):
    """One numbered heading of a recipe with its diff."""

    recipe: str
    number: int
    title: str
    diff: str

    @property
    def failure(self) -> str:
        """What a check says when this step is left out."""
        return _failure(self.number, self.title)

    @property
    def place(self) -> str:
        """Where to find the step."""
        return f"docs/how-to/add-a-{self.recipe}.md, step {self.number} ({self.title})"

    def replaced(self) -> Iterator[tuple[str, str]]:
        """Of every hunk that changes a file: that file's path, and the lines that it looks for."""
        for path, hunks in _FILE.findall(self.diff):
            for hunk in _HUNK.split(hunks)[1:] if path else ():
                yield path, "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in " -")


def _failure(number: int, title: str) -> str:
    return f"step {number} is missing or wrong: {title}"


def steps(recipe: str) -> list[Step]:
    """The steps of ``docs/how-to/add-a-{recipe}.md``, in order."""
    text = Page(ROOT / "docs" / "how-to" / f"add-a-{recipe}.md").text
    found = _STEP.findall(text)
    return [Step(recipe, int(number), title, "".join(_DIFF.findall(body))) for number, title, body in found]


def copy_tree(folder: Path) -> Path:
    """A copy of the repository's files but for those git ignores, as a repository of its own for ``git apply``."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # one that was deleted and is not committed yet is listed too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    return folder


def apply(tree: Path, wanted: Iterable[Step]) -> None:
    """Apply the steps' diffs, in order. Fails, naming page and step, when one does not fit the tree."""
    for step in wanted:
        command = ["git", "apply", "--whitespace=error", "-"]
        done = subprocess.run(command, cwd=tree, input=step.diff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (
            f"{step.place}: its diff no longer fits the tree. Make the change by hand, and put what `git diff -U1` "
            f"says in its place.\n{done.stderr}"
        )


def check(tree: Path, recipe: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run ``tests/recipes/{recipe}.py`` in the tree, as a process of its own that imports the tree's packages."""
    command = [sys.executable, "-m", f"tests.recipes.{recipe}"]
    given = os.environ | {"PYTHONPATH": str(tree)} | environment
    return subprocess.run(command, cwd=tree, env=given, capture_output=True, text=True, timeout=240, check=False)


# what the checks in tests/recipes are written with


@contextmanager
def step(number: int, title: str) -> Iterator[None]:
    """The part of a check that shows that a step was done; what fails in it ends the check with the step's name."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, the process ends with it
        traceback.print_exc()
        sys.exit(f"{_failure(number, title)} ({type(error).__name__}: {error})")


def in_the_copy(module: object) -> None:
    """Fail unless a module is the copy's, and not the one that is installed."""
    file = Path(str(getattr(module, "__file__", "")))
    assert file.is_relative_to(Path.cwd()), f"{file} is not in {Path.cwd()}"
