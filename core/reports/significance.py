"""Tests of significance: a difference or a trend is reported only beyond two standard errors."""

from collections.abc import Sequence
from math import log, sqrt

from core.reports.data import Ratio, Spread, Wait
from core.reports.formatting import FEW

_CLEAR = 2.0
_WEEKS = 6


def counts_differ(a: int, b: int) -> bool:
    """Two counts over equal times, as Poisson counts."""
    return a + b >= FEW and abs(a - b) > _CLEAR * sqrt(a + b)


def ratios_differ(a: Ratio, b: Ratio) -> bool:
    """Two shares, each of at least twenty (pooled two-proportion z)."""
    if a.whole < FEW or b.whole < FEW:
        return False
    pooled = (a.part + b.part) / (a.whole + b.whole)
    error = sqrt(pooled * (1 - pooled) * (1 / a.whole + 1 / b.whole))
    return error > 0 and abs(a.part / a.whole - b.part / b.whole) > _CLEAR * error


def waits_differ(a: Wait, b: Wait) -> bool:
    """Two medians, each of at least twenty; the spread is estimated from the 90th percentile of a log-normal."""
    errors = _log_error(a), _log_error(b)
    if not a.median or not b.median or None in errors:
        return False
    return abs(log(a.median / b.median)) > _CLEAR * sqrt(sum((e or 0) ** 2 for e in errors))


def _log_error(wait: Wait) -> float | None:
    if wait.n < FEW or not wait.median or not wait.p90:
        return None
    # 1.2816 is the normal's 90 % point; 1.2533 converts the standard error of a mean to that of a median
    return 1.2533 * max(log(wait.p90 / wait.median) / 1.2816, 0.05) / sqrt(wait.n)


def medians_differ(a: Spread, b: Spread) -> bool:
    """Two boxes, each of at least twenty, whose notches do not overlap (McGill, Tukey and Larsen, 1978)."""
    ends = []
    for one in (a, b):
        if one.n < FEW or one.median is None or one.first is None or one.third is None:
            return False
        half = 1.57 * (one.third - one.first) / sqrt(one.n)
        ends.append((one.median - half, one.median + half))
    return ends[0][0] > ends[1][1] or ends[1][0] > ends[0][1]


def means_differ(a: float, n: int, b: float, m: int) -> bool:
    """Two means of n and m shares; each is assumed to have the largest variance that its mean allows (0 or 1)."""
    return ratios_differ(Ratio(round(a * n), n), Ratio(round(b * m), m))


def trend(values: Sequence[float]) -> int:
    """1 when a series rises, -1 when it falls, 0 when neither is clear (Mann–Kendall; at least six values)."""
    n = len(values)
    if n < _WEEKS:
        return 0
    score = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    error = sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return 0 if abs(score) <= _CLEAR * error else (1 if score > 0 else -1)
