"""``greenroom report``: one report to a file, whole or not at all, with calm words for what goes wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.db import transaction
from core.reports.filenames import filename
from deployments.cli import main
from deployments.report import Progress
from tests.support import processes
from tests.support.factories import People
from tests.support.report_queue import new_people


@pytest.fixture
def people(database: str) -> People:
    return new_people()


def run(folder: Path, *arguments: str, database: str | None = None) -> "subprocess.CompletedProcess[str]":
    """The command, called in a folder of its own."""
    environment = os.environ | ({"GREENROOM_DATABASE_URL": database} if database else {})
    environment |= {"PYTHONPATH": str(processes.ROOT)}
    command = [sys.executable, "-m", "deployments.cli", "report", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_report_is_stored_at_the_given_path(people: People, tmp_path: Path) -> None:
    done = run(tmp_path, "dashboard-pdf", "--start", "2026-03-01", "--end", "2026-03-08")
    assert (done.returncode, done.stderr) == (0, ""), "no bar where nobody looks"
    path = tmp_path / done.stdout.strip()
    assert path.name == "Dashboard 2026-03-01 to 2026-03-07.pdf"
    assert path.read_bytes().startswith(b"%PDF")
    there = tmp_path / "there.pdf"
    there.write_bytes(b"old")
    done = run(tmp_path, "candidate_pdf", "--candidate", str(people.candidate_id), "-o", str(there))
    assert done.stdout.strip() == str(there), done.stderr
    assert there.read_bytes().startswith(b"%PDF")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, there.name]), "and nothing else"
    assert oct(there.stat().st_mode & 0o777) == oct(0o666 & ~umask())


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_csv_into_a_folder_has_its_own_name(people: People, tmp_path: Path) -> None:
    done = run(tmp_path, "dashboard-csv", "--start", "2026-03-01", "--end", "2026-03-02", "-o", ".")
    assert done.stdout.strip() == "Sessions 2026-03-01.csv", done.stderr
    assert (tmp_path / "Sessions 2026-03-01.csv").read_text().count("\n") == 1


def test_symlinks_are_followed_and_pipes_are_kept(people: People, tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("real.csv")
    os.mkfifo(tmp_path / "pipe")
    with os.fdopen(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
        for name in ("link.csv", "pipe"):
            done = run(tmp_path, "dashboard-csv", "-o", name)
            assert (done.returncode, done.stdout.strip()) == (0, name), done.stderr
        assert pipe.read() == (tmp_path / "real.csv").read_bytes() != b""
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "pipe").is_fifo()


def test_the_longest_names_fit_file_systems() -> None:
    for letter in "x漢😀":
        name = filename(f"Candidate {letter * 200} 1999-12-31 to 2026-02-01", "pdf")
        assert name.endswith(f"{letter} 1999-12-31 to 2026-02-01.pdf")
        assert len(name.encode()) < 210
    assert filename("../\x00\u202e", "csv") == "Report.csv"


WRONG = [
    (["everything"], "TYPE: "),
    (["interview-pdf"], "--interview: is needed"),
    (["candidate-pdf", "--candidate", "999999"], "--candidate: there is no candidate 999999"),
    (["dashboard-csv", "--start", "soon"], "--start: must be a date"),
    (["dashboard-csv", "--start", "2026-03-02", "--end", "2026-03-01"], "--start: the period would be empty"),
    (["dashboard-csv", "-o", "nowhere/report.csv"], "nowhere/report.csv cannot be written: No such file"),
]


def test_errors_are_reported_without_traceback(
    people: People, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, says in WRONG:
        monkeypatch.setattr(sys, "argv", ["greenroom", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert (ended.value.code, captured.out) == (1, ""), arguments
        assert captured.err.startswith(f"greenroom: {says}") and captured.err.count("\n") == 1, captured.err
    assert list(tmp_path.iterdir()) == []
    with transaction() as db:
        assert db.connection().exec_driver_sql("SELECT count(*) FROM reports").scalar_one() == 0


def test_an_unreachable_database(tmp_path: Path) -> None:
    away = run(tmp_path, "dashboard-csv", database=f"postgresql://nobody@127.0.0.1:{processes.free_port()}/x")
    assert away.returncode == 1
    assert away.stderr.startswith("greenroom: the database cannot be reached")


class Terminal:
    """What a bar is written to."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_progress_bar_and_clears_it() -> None:
    screen = Terminal()
    with Progress(screen) as progress:  # type: ignore[arg-type]
        progress.at(2, "drawing and printing")
    assert "[############............] drawing and printing" in screen.written
    assert screen.written.endswith("\r\x1b[2K")
