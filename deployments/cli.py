"""The ``greenroom`` command. Each part imports what it needs when it is called: Prefect alone takes a second."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from core.errors import BadSettings, GreenroomError, Invalid

app = typer.Typer(
    name="greenroom",
    help="The backstage of an interview platform: scheduled jobs and live updates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def up() -> None:
    """Start the whole stack here, in the foreground; Ctrl-C stops it."""
    from core.settings import settings
    from deployments.local.stack import up as start

    raise typer.Exit(start(settings()))


@app.command()
def api() -> None:
    """Serve HTTP and live updates."""
    from core.settings import settings

    settings().secret()  # a wrong setting is reported before a second of imports
    from api.server import serve

    serve()


@app.command()
def worker(
    pool: Annotated[str, typer.Option(envvar="GREENROOM_POOL", help="work pool to take runs from")] = "local",
) -> None:
    """Execute scheduled flow runs."""
    from core.settings import settings

    settings()  # a wrong setting is reported here, not by each run
    from deployments.worker import run

    run(pool)


@app.command()
def dispatcher() -> None:
    """Send mails and reminders and render reports at once, and publish every flow run's states."""
    from core.settings import settings

    settings()  # a wrong setting is reported before a second of imports
    from dispatcher.main import run

    run()


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from core.migrations import migrate as apply

    apply()
    typer.echo("The database is at the newest schema.")


@app.command()
def deploy(
    prefect_file: Annotated[Path, typer.Argument(help="the deployments and their schedules")] = Path("prefect.yaml"),
) -> None:
    """Put the schedules of prefect.yaml on the Prefect server; what is paused there stays paused."""
    from core.settings import settings

    settings()  # what is wrong is said before seconds of imports
    if not prefect_file.is_file():
        raise Invalid("prefect_file", f"{prefect_file} is not there; run this where prefect.yaml is, or name it")
    from deployments.schedules.deploy import main as deploy_all

    deploy_all(prefect_file)


@app.command()
def demo(
    live: Annotated[bool, typer.Option("--live", help="then change a session every few seconds until Ctrl-C")] = False,
) -> None:
    """Load the demo data, unless there are users already."""
    from deployments.demo import load, run_live

    typer.echo(load())
    if live:
        run_live()


@app.command()
def token(
    user: Annotated[str | None, typer.Option(help="a user's email")] = None,
    sub: Annotated[int | None, typer.Option(help="a user's id, with --role")] = None,
    role: Annotated[str | None, typer.Option(help="the role claim that goes with --sub")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="role, email and token of the demo's four users")] = False,
) -> None:
    """Print a token for a user, and only the token."""
    from deployments.tokens import demo_tokens, token_for

    if demo:
        for line in demo_tokens():
            typer.echo(" ".join(line))
        return
    typer.echo(token_for(email=user, sub=sub, role=role))


@app.command()
def jobs() -> None:
    """Print every job's schedule, its last and next run, and what is late."""
    from core.settings import settings
    from deployments.jobs import report

    for line in report(settings()):
        typer.echo(line)


@app.command()
def report(
    type_: Annotated[
        str, typer.Argument(metavar="TYPE", help="such as dashboard-pdf; another one is answered with all there are")
    ],
    interview: Annotated[int | None, typer.Option(help="the interview's id, of interview-pdf")] = None,
    candidate: Annotated[int | None, typer.Option(help="the candidate's id, of candidate-pdf")] = None,
    start: Annotated[str | None, typer.Option(help="a date, or a time with its offset; absent: 30 days back")] = None,
    end: Annotated[str | None, typer.Option(help="the period ends before it; absent: today")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file or folder; absent: here")] = None,
) -> None:
    """Write one report to a file, and print its path."""
    from core.settings import settings

    settings().database()  # a wrong setting is reported before a second of imports
    from deployments.report import write

    typer.echo(write(type_, output, interview_id=interview, candidate_id=candidate, start=start, end=end))


@app.command()
def check() -> None:
    """Print what is missing on this machine and how to install it."""
    from deployments.check import report

    raise typer.Exit(report())


def main() -> None:
    """Run the command; an error that the user can fix is printed as one line, without a traceback."""
    try:
        app()
    except BadSettings as error:
        for name, reason in error.reasons.items():
            sys.stderr.write(f"greenroom: {name}: {reason}\n")
        raise SystemExit(2) from None
    except GreenroomError as error:
        sys.stderr.write(f"greenroom: {error}\n")
        raise SystemExit(1) from None
    except Exception as error:
        if (advice := _database_advice(error)) is None:
            raise
        sys.stderr.write(f"greenroom: {advice}\n")
        raise SystemExit(1) from None


def _database_advice(error: Exception) -> str | None:
    """The message for a database error that the user can fix; None for any other error."""
    from psycopg import OperationalError
    from psycopg.errors import UndefinedColumn, UndefinedTable

    cause = getattr(error, "orig", error)  # SQLAlchemy's errors wrap the driver's
    if isinstance(cause, OperationalError):
        return f"the database cannot be reached: {str(cause).splitlines()[0]}"
    if isinstance(cause, UndefinedTable | UndefinedColumn):
        return "the database is not at the newest schema; bring it there with: greenroom migrate"
    return None


if __name__ == "__main__":
    main()
