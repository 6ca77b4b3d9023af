"""Reports: the daily ones are asked for; whoever renders takes them from there."""

from datetime import date as Day  # noqa: N812 - the parameter is called date, as people give it
from datetime import datetime
from typing import Any

from prefect import State, flow

from core import reports
from flows.run import job, slot_name


@flow(name="generate-daily-reports", flow_run_name=slot_name)
async def generate_daily_reports(
    date: Day | None = None, until: Day | None = None, now: datetime | None = None, dry_run: bool = False
) -> reports.Asked | State[Any]:
    """Asks for the dashboard of yesterday as PDF and CSV, once a day however often it runs.

    date: of this day instead; with until: of each day from date to until. now: yesterday as of this time.
    dry_run: say which would be asked for, change nothing.
    """
    return await job(reports.ask_daily, now=now, dry_run=dry_run, own_slot=True, date=date, until=until)
