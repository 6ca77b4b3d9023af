"""What reports' sample data are made of: names in every script, hostile ones, and figures that add up."""

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from core.reports.data import Period, Ratio, Spread, Totals, Wait, Week

SIZES = (0, 1, 12, 480, 100_000)

ZONE = "Europe/Copenhagen"

AS_OF = datetime(2026, 11, 23, 6, 0, tzinfo=UTC)

NAMES = (
    "Iris Okafor",
    "فاطمة الزهراء بنت محمد",
    "שירה אברמוביץ",
    "प्रियंका चतुर्वेदी",
    "王小明",
    "ณัฐวุฒิ สุขสวัสดิ์",
    "Zoë 🦊 Müller-Lüdenscheidt",
    "Nguyễn Thị Ánh Nguyệt",
    "Дмитрий Щербаков",
    "Ólafur Þór Hrafnsson",
)
"""One of every script that names come in."""

HOSTILE = (
    "<script>alert(1)</script>",
    '<iframe src="file:///etc/passwd"></iframe>',
    "${7*7} %{y} <b>bold</b>",
    '"><img src=x onerror=alert(1)>',
    "=HYPERLINK(1) \u202egnp.exe",
)

POSITIONS = ("Backend Engineer", "Frontend Engineer", "Data Analyst", "Site Reliability Engineer", "Product Manager")

SKILLS = ("system design", "databases", "communication", "testing", "code review", "operations")


def period(days: int = 84) -> Period:
    """So many local days up to the 23rd of November."""
    end = datetime(2026, 11, 23, tzinfo=ZoneInfo(ZONE))
    return Period(end - timedelta(days=days), end, ZONE)


def totals(n: int, lean: float = 0.0) -> Totals:
    """A period's figures over n planned sessions; ``lean`` makes it better or worse."""
    shown, missed = round(n * (0.86 + lean)), round(n * (0.08 - lean / 2))
    done = round(shown * 0.9)
    return totals_of(
        (n, shown, missed, done, round(n * 0.7), round(n * 0.9), round(done * (0.58 + lean)), round(done * 0.8)), lean
    )


def totals_of(parts: tuple[int, ...], lean: float = 0.0) -> Totals:
    n, shown, missed, done, taken, invited, passed, in_time = parts
    return Totals(
        planned=n,
        completed=done,
        show=Ratio(shown, shown + missed),
        no_show=Ratio(missed, shown + missed),
        held=Ratio(done, n),
        completion=Ratio(done, shown),
        conversion=Ratio(taken, invited),
        passed=Ratio(passed, done),
        feedback_in_time=Ratio(in_time, done),
        time_to_hire=wait(n // 12, 19 * 24 * (1 - lean) + n % 17, 36 * 24),
        scheduling_delay=wait(n, 74 + n % 13, 190),
        time_to_decision=wait(done, 21 + n % 5, 70),
    )


def weeks(n: int, days: int = 84, back: int = 0, lean: float = 0.0) -> tuple[Week, ...]:
    """n sessions over the weeks of so many days, some more than others, which add up to the period's totals."""
    rng = Random(n + back)
    start = period(days).start.date() - timedelta(days=back)
    mondays = sorted({d - timedelta(days=d.weekday()) for d in (start + timedelta(days=i) for i in range(days))})
    shares = [1 + 0.05 * i + rng.uniform(-0.2, 0.2) for i in range(len(mondays))]
    whole, kinds = totals(n, lean), outcomes(n, back == 0)
    amounts = (
        whole.planned,
        whole.show.part,
        whole.no_show.part,
        whole.completed,
        *whole.conversion,
        whole.passed.part,
        whole.feedback_in_time.part,
    )
    columns = [split(amount, shares) for amount in amounts]
    became = {kind: split(amount, shares) for kind, amount in kinds.items()}
    return tuple(
        Week(monday, {kind: split[i] for kind, split in became.items()}, totals_of(tuple(c[i] for c in columns), lean))
        for i, monday in enumerate(mondays)
    )


def split(amount: int, shares: list[float]) -> list[int]:
    """In parts that add up."""
    ends = [round(amount * sum(shares[: i + 1]) / sum(shares)) for i in range(len(shares))]
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]


def histogram(n: int) -> tuple[int, ...]:
    """n scores in twenty bins around 62."""
    rng = Random(n)
    bins = [0] * 20
    for _ in range(min(n, 5000)):
        bins[min(19, max(0, int(rng.gauss(63, 14) // 5)))] += 1
    return tuple(b * max(1, n // 5000) for b in bins)


def spread(rng: Random, n: int, middle: float, scale: float, top: float = 100) -> Spread:
    """A box around the middle; a point at n = 1."""
    if n < 1:
        return Spread(0)
    half = 0.67 * scale if n > 1 else 0.0
    at = middle + rng.uniform(-1, 1)
    return Spread(n, max(0, at - 4 * half), at - half, at, at + half, min(top, at + 4 * half))


def wait(n: int, median: float, p90: float) -> Wait:
    return Wait(n, median, p90 if n > 1 else median) if n else Wait(0)


def outcomes(n: int, last: bool) -> dict[str, int]:
    done = round(round(n * 0.86) * 0.9)
    missed, stopped = round(n * 0.08), round(n * 0.06)
    still = round(n * 0.05) if last else 0
    rest = max(0, n - done - missed - stopped - still)
    return {
        "completed": done,
        "abandoned": stopped,
        "no_show": missed,
        "cancelled": rest // 2,
        "expired": rest - rest // 2,
        "open": still,
    }
