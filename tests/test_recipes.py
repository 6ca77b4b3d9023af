"""The recipes of docs/how-to: each applied to a copy of the tree works, and with a step left out says which."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import recipes
from tests.support.processes import ROOT

if TYPE_CHECKING:
    from tests.support.prefect_server import PrefectProcess

STEPS = [step for recipe in recipes.RECIPES for step in recipes.steps(recipe)]
DOCS = ("test_every_push_type_is_listed", "test_mail_kinds_and_report_types_are_the_codes")
COMMANDS = (
    "ruff check .",
    "ruff format --check .",
    "mypy core flows",
    "lint-imports --no-cache",
    f"pytest -p no:cacheprovider {' '.join(f'tests/test_docs.py::{name}' for name in DOCS)}",
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return recipes.copy_tree(tmp_path / "tree")


def works(recipe: str, tree: Path, **environment: str) -> None:
    recipes.apply(tree, recipes.steps(recipe))
    done = recipes.check(tree, recipe, **environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.servers
@pytest.mark.parametrize("recipe", [recipe for recipe in recipes.RECIPES if recipe != "job"])
def test_a_recipe_works(recipe: str, tree: Path, database: str) -> None:
    works(recipe, tree, GREENROOM_DATABASE_URL=database)


@pytest.mark.servers
def test_the_recipe_of_a_job_works(tree: Path, database: str, prefect: "PrefectProcess") -> None:
    from tests.support.prefect_server import AUTH  # noqa: PLC0415 - it imports Prefect for seconds

    server = {"PREFECT_API_URL": prefect.url, "PREFECT_API_AUTH_STRING": AUTH}
    works("job", tree, GREENROOM_DATABASE_URL=database, **server)


@pytest.mark.servers
@pytest.mark.parametrize("left_out", STEPS, ids=lambda step: f"{step.recipe}-{step.number}")
def test_a_step_left_out_is_named(left_out: recipes.Step, tree: Path, database: str) -> None:
    recipes.apply(tree, [step for step in recipes.steps(left_out.recipe) if step != left_out])
    done = recipes.check(tree, left_out.recipe, GREENROOM_DATABASE_URL=database)
    assert done.returncode == 1, done.stdout + done.stderr
    assert left_out.failure in done.stderr


@pytest.mark.servers
def test_all_recipes_together_keep_lint_types_layers_and_docs(tree: Path) -> None:
    recipes.apply(tree, STEPS)
    types = ROOT / ".mypy_cache"
    if types.exists():  # what `make lint` knows of the files that no recipe changes: three seconds instead of twenty
        shutil.copytree(types, tree / types.name)
    for command in COMMANDS:
        program, *arguments = command.split()
        ran = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{command}:\n{ran.stdout}{ran.stderr}"


# the diffs


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_steps_are_numbered_in_order_and_each_has_a_diff(recipe: str) -> None:
    steps = recipes.steps(recipe)
    assert [step.number for step in steps] == list(range(1, len(steps) + 1))
    assert [step.title for step in steps if not step.diff] == []


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.recipe}-{step.number}")
def test_a_diff_fits_one_place_of_a_file_only(step: recipes.Step) -> None:
    """Its line numbers may be out of date: the lines that it looks for must be enough to find the place."""
    for path, lines in step.replaced():
        found = ("\n" + (ROOT / path).read_text()).count("\n" + lines)
        assert found == 1, f"{step.place}: found {found} times in {path}:\n{lines}"


@pytest.mark.servers
def test_a_diff_that_no_longer_fits_is_named(tree: Path) -> None:
    step = next(step for step in STEPS if step.recipe == "push")
    path, lines = next(step.replaced())
    (tree / path).write_text((tree / path).read_text().replace(lines, ""))
    with pytest.raises(AssertionError, match=r"docs/how-to/add-a-push\.md, step 1 \(The event class\): its diff"):
        recipes.apply(tree, [step])
