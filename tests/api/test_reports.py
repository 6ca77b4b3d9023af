"""Reports over HTTP: who may ask and see, what is pushed to a real client, and every way to fetch a file."""

import base64
import hashlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import text, update

from api.reports import UNSATISFIABLE, disposition, parse_range
from core import reports
from core.clock import utcnow
from core.db import transaction
from core.models import Report
from core.reports.queue import outcomes
from core.reports.queue.files import SLICE
from core.reports.queue.outcomes import Failure
from tests.support.http import Clients, all_at_once, json_body, names, new_clients, refused
from tests.support.processes import Api, Database, JsClient, api_process, token
from tests.support.report_queue import REPORTS, claim, finish, ready


@pytest.fixture
def clients(api: Api) -> Clients:
    return new_clients(api)


def csv(**more: Any) -> dict[str, Any]:
    return {"type": "dashboard_csv", **more}


def request_report(clients: Clients, **more: Any) -> dict[str, Any]:
    return json_body(clients.recruiter.post(REPORTS, json=csv(**more)), 202)


def change(report_id: object, **values: Any) -> None:
    with transaction() as db:
        db.execute(update(Report).where(Report.id == UUID(str(report_id))).values(**values))


def test_requesting_a_report(clients: Clients) -> None:
    answer = clients.recruiter.post(
        REPORTS, json=csv(start="2026-03-01", end="2026-03-08", email_to="boss@example.com")
    )
    report = json_body(answer, 202)
    assert answer.headers["location"] == f"{REPORTS}/{report['id']}"
    assert (report["type"], report["status"], report["file"]) == ("dashboard_csv", "queued", None)
    assert report["parameters"] == {"start": "2026-03-01T00:00:00+00:00", "end": "2026-03-08T00:00:00+00:00"}
    assert (report["requested_by"], report["email_to"]) == (clients.people.ids["recruiter"], "boss@example.com")
    seen = clients.recruiter.get(answer.headers["location"])
    assert json_body(seen) == report
    assert int(seen.headers["last-id"]) > 0
    again = clients.recruiter.post(REPORTS, json=csv(start="2026-03-01", end="2026-03-08", email_to="boss@example.com"))
    assert (json_body(again, 202), again.headers["location"]) == (report, answer.headers["location"])


def test_an_idempotency_key(clients: Clients) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    first = clients.recruiter.post(REPORTS, json=csv(), headers=key)
    [mine] = [one for one in claim() if str(one.id) == json_body(first, 202)["id"]]
    finish(mine)
    second = clients.recruiter.post(REPORTS, json=csv(), headers=key)
    assert (second.json(), second.headers["location"]) == (first.json(), first.headers["location"])
    assert request_report(clients)["id"] != first.json()["id"], "without the key it is another"
    names(clients.recruiter.post(REPORTS, json=csv(end="2026-03-01"), headers=key), "Idempotency-Key")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "everything"}, "type"),
    ({"type": "interview_pdf"}, "interview_id"),
    ({"type": "interview_pdf", "interview_id": 2**62}, "interview_id"),
    ({"type": "candidate_pdf", "candidate_id": 0}, "candidate_id"),
    ({"candidate_id": 1}, "candidate_id"),
    ({"start": "2026-13-01"}, "start"),
    ({"end": "2026-03-01T00:00:00"}, "end"),
    ({"start": "2026-03-01", "end": "2026-02-01"}, "start"),
    ({"email_to": "nobody"}, "email_to"),
    ({"email_to": "a@b\r\nBcc: c@d"}, "email_to"),
    ({"format": "xls"}, "format"),
]


def test_bad_input_is_named(clients: Clients) -> None:
    for more, field in BAD:
        names(clients.recruiter.post(REPORTS, json=csv(**more)), field)


def test_who_may(clients: Clients, api: Api) -> None:
    id_ = ready(clients.people)
    for role in ("interviewer", "candidate"):
        client = clients.by(role)
        refused(client.post(REPORTS, json=csv()), 403, role)
        for path in (REPORTS, f"{REPORTS}/{id_}", f"{REPORTS}/{id_}/file"):
            refused(client.get(path), 403)
    other = new_clients(api)
    for path in (f"{REPORTS}/{id_}", f"{REPORTS}/{id_}/file", f"{REPORTS}/{uuid4()}", f"{REPORTS}/{uuid4()}/file"):
        refused(other.recruiter.get(path), 404)
        refused(httpx.get(api.url + path, trust_env=False), 401)
    for client in (clients.recruiter, other.admin):
        json_body(client.get(f"{REPORTS}/{id_}"))
        assert client.get(f"{REPORTS}/{id_}/file").status_code == 200
    names(clients.admin.get(f"{REPORTS}/7"), "report_id")


def test_lists(clients: Clients, api: Api) -> None:
    mine = [request_report(clients, end=f"2026-03-0{n}")["id"] for n in range(1, 6)]
    other = new_clients(api)
    theirs = request_report(other)["id"]
    first = json_body(clients.recruiter.get(REPORTS, params={"limit": 3}))
    rest = json_body(clients.recruiter.get(REPORTS, params={"limit": 3, "cursor": first["next"]}))
    assert [one["id"] for one in first["items"] + rest["items"]] == mine[::-1]
    assert rest["next"] is None and first["last_id"] > 0
    all_ = json_body(clients.admin.get(REPORTS, params={"limit": 200}))
    assert {theirs, *mine} <= {one["id"] for one in all_["items"]}
    assert json_body(clients.recruiter.get(REPORTS, params={"status": ["ready", "failed"]}))["items"] == []
    assert len(json_body(clients.recruiter.get(REPORTS, params={"type": "dashboard_csv"}))["items"]) == 5
    names(clients.recruiter.get(REPORTS, params={"cursor": "?"}), "cursor")


def test_daily_reports_are_for_all_staff(clients: Clients) -> None:
    reports.enqueue_daily(now=utcnow())
    with transaction() as db:
        reports.enqueue_as_system(db, reports.NewReport(type="dashboard_csv"), key=f"flow-run/{uuid4()}", now=utcnow())
    seen = {one["requested_by"] for one in json_body(clients.recruiter.get(REPORTS))["items"]}
    assert seen == {None}
    assert len(json_body(clients.recruiter.get(REPORTS))["items"]) == 2


def test_the_file(clients: Clients) -> None:
    content = b"a,b\r\n" + bytes(range(256)) * (SLICE // 100) + b"the end"
    assert len(content) > 2 * SLICE
    id_ = ready(clients.people, content, "Übersicht „März“.csv")
    report = json_body(clients.recruiter.get(f"{REPORTS}/{id_}"))
    assert report["status"] == "ready"
    file, url = report["file"], f"{REPORTS}/{id_}/file"
    assert (file["url"], file["size"]) == (url, len(content))
    answer = clients.recruiter.get(url)
    assert answer.content == content
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-length"] == str(len(content))
    assert answer.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"' == f'"{file["sha256"]}"'
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"_bersicht _M_rz_.csv\"; filename*=UTF-8''"
        "%C3%9Cbersicht%20%E2%80%9EM%C3%A4rz%E2%80%9C.csv"
    )
    etag = answer.headers["etag"]
    for tags in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        same = clients.recruiter.get(url, headers={"If-None-Match": tags})
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert clients.recruiter.get(url, headers={"If-None-Match": '"x"'}).status_code == 200


def test_ranges(clients: Clients) -> None:
    content = bytes(n % 251 for n in range(SLICE + 1000))
    id_ = ready(clients.people, content)
    url, size = f"{REPORTS}/{id_}/file", len(content)
    etag = clients.recruiter.get(url).headers["etag"]
    for given_, first, last in (
        ("bytes=0-0", 0, 0),
        (f"bytes={SLICE - 1}-{SLICE}", SLICE - 1, SLICE),
        (f"bytes={SLICE}-", SLICE, size - 1),
        ("bytes=-10", size - 10, size - 1),
        ("bytes=5-99999999999", 5, size - 1),
    ):
        part = clients.recruiter.get(url, headers={"Range": given_, "If-Range": etag})
        assert (part.status_code, part.content) == (206, content[first : last + 1])
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
    beyond = clients.recruiter.get(url, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    for headers in (
        {"Range": "bytes=0-1", "If-Range": '"other"'},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=5-1"},
    ):
        whole = clients.recruiter.get(url, headers=headers)
        assert (whole.status_code, len(whole.content)) == (200, size)


sizes = st.integers(0, 50)


@given(st.text("0123456789-= bytes,", max_size=20).map(lambda rest: f"bytes={rest}"), sizes)
@example("bytes=-0", 10)
@example("bytes=0-", 0)
@example("bytes=-5", 0)
def test_a_range_lies_in_the_file(given_: str, size: int) -> None:
    found = parse_range(given_, size)
    if found is not None and found != UNSATISFIABLE:
        assert 0 <= found[0] <= found[1] < size


@given(st.text(max_size=100))
def test_file_names_cannot_escape_the_header(name: str) -> None:
    header = disposition(name.encode("utf-8", "ignore").decode())
    assert header.isascii() and header.isprintable()
    assert header.count('"') == 2


def test_an_unknown_file_is_404(clients: Clients) -> None:
    waiting = request_report(clients)["id"]
    refused(clients.recruiter.get(f"{REPORTS}/{waiting}/file"), 409, "queued")
    [mine] = [one for one in claim() if str(one.id) == waiting]
    refused(clients.recruiter.get(f"{REPORTS}/{waiting}/file"), 409, "running")
    with transaction() as db:
        outcomes.mark_failed(db, mine, Failure("There was no paper.", retry=False), now=utcnow())
    refused(clients.recruiter.get(f"{REPORTS}/{waiting}/file"), 409, "failed", "There was no paper.")
    assert json_body(clients.recruiter.get(f"{REPORTS}/{waiting}"))["reason"] == "There was no paper."
    id_ = ready(clients.people)
    change(id_, expires_at=utcnow() - timedelta(days=1))
    with transaction() as db:
        db.execute(text("DELETE FROM report_files WHERE report_id = :id"), {"id": id_})
    refused(clients.recruiter.get(f"{REPORTS}/{id_}/file"), 404, "no longer kept", "Ask for the report again")
    assert json_body(clients.recruiter.get(f"{REPORTS}/{id_}"))["file"] is None


def test_a_file_is_gone_when_it_expires_and_not_when_it_is_removed(clients: Clients) -> None:
    id_ = ready(clients.people)
    change(id_, expires_at=utcnow() - timedelta(seconds=1))
    refused(clients.recruiter.get(f"{REPORTS}/{id_}/file"), 404, "no longer kept", "Ask for the report again")
    assert json_body(clients.recruiter.get(f"{REPORTS}/{id_}"))["file"] is None
    [listed] = [one for one in json_body(clients.recruiter.get(REPORTS))["items"] if one["id"] == str(id_)]
    assert (listed["status"], listed["file"]) == ("ready", None)


def test_a_full_queue(shared_database: Database, tmp_path: Path) -> None:
    with transaction() as db:
        db.execute(text("UPDATE reports SET status = 'failed' WHERE status IN ('queued', 'running')"))
    with api_process(shared_database.url, tmp_path, REPORT_QUEUE_CAPACITY="3") as small:
        clients = new_clients(small)
        bodies = [csv(end=f"2026-03-{n:02}") for n in range(1, 11)]
        answers = all_at_once(lambda body: clients.recruiter.post(REPORTS, json=body), bodies)
        assert sorted(answer.status_code for answer in answers) == [202] * 3 + [429] * 7
        for answer in answers:
            if answer.status_code == 429:
                refused(answer, 429, "3 reports")
                assert int(answer.headers["retry-after"]) >= 1


def test_pushes_of_a_report(clients: Clients, api: Api, js_clients: Path) -> None:
    with JsClient(js_clients) as mine, JsClient(js_clients) as admin:
        mine.connect(api.ws, token(clients.people.ids["recruiter"]))
        mine.subscribe("reports", "/user/queue/reports")
        admin.connect(api.ws, token(clients.people.ids["admin"]))
        admin.subscribe("reports", "/user/queue/reports")
        id_ = str(ready(clients.people, b"12345"))
        bodies = [mine.next("reports") for _ in range(3)]
        assert [body["type"] for body in bodies] == ["report.queued", "report.running", "report.ready"]
        assert all(body["destination"] == "/user/queue/reports" for body in bodies)
        assert {body["data"]["report_id"] for body in bodies} == {id_}
        assert clients.recruiter.get(bodies[2]["data"]["url"]).content == b"12345"
        last = json_body(clients.admin.post(REPORTS, json=csv()), 202)["id"]
        assert admin.next("reports")["data"]["report_id"] == last, "of others' nothing was heard"


def test_the_page_of_a_report_link(api: Api, clients: Clients) -> None:
    id_ = ready(clients.people)
    page = httpx.get(f"{api.url}/reports/{id_}", trust_env=False)
    assert page.status_code == 200
    assert page.text == httpx.get(f"{api.url}/reports/{uuid4()}", trust_env=False).text, "it tells nothing by itself"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("script", "style"):
        [block] = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        assert base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() in policy
    assert not re.search(r"""\s(?:on\w+|style|src|href)=""", page.text)
    assert httpx.get(f"{api.url}/reports/nothing", trust_env=False).status_code == 422


def test_what_prometheus_sees(api: Api, clients: Clients) -> None:
    ready(clients.people)
    seen = httpx.get(f"{api.url}/metrics", trust_env=False).text
    for name in ("greenroom_reports{", "greenroom_report_ready_seconds{", "greenroom_report_overdue_seconds "):
        assert f"\n{name}" in seen
