"""Five-number summaries of counted values: a weighted quantile needs one row for each distinct value only."""

from collections.abc import Iterable
from typing import Any

from core.reports.data import Spread

OUTLIERS = 50

SPREADS = """
    ranked AS (
        SELECT key, value, n, CAST(sum(n) OVER (PARTITION BY key ORDER BY value) AS bigint) AS upto,
            CAST(sum(n) OVER (PARTITION BY key) AS bigint) AS total
        FROM valued
    ),
    placed AS (
        SELECT key, total, share, share * (total - 1) - floor(share * (total - 1)) AS rest,
            min(value) FILTER (WHERE upto > floor(share * (total - 1))) AS below,
            min(value) FILTER (WHERE upto > ceil(share * (total - 1))) AS above
        FROM ranked, unnest(CAST(ARRAY[0.25, 0.5, 0.75] AS float8[])) AS share GROUP BY 1, 2, 3
    ),
    boxes AS (
        SELECT key, total, max(at) FILTER (WHERE share = 0.25) AS first, max(at) FILTER (WHERE share = 0.5) AS median,
            max(at) FILTER (WHERE share = 0.75) AS third
        FROM (SELECT key, total, share, below + (above - below) * rest AS at FROM placed) AS quartiles GROUP BY 1, 2
    ),
    fences AS (SELECT *, first - 1.5 * (third - first) AS least, third + 1.5 * (third - first) AS most FROM boxes),
    spreads AS (
        SELECT fences.key, total, min(value) FILTER (WHERE value >= least) AS low, first, median, third,
            max(value) FILTER (WHERE value <= most) AS high, least, most
        FROM fences JOIN valued USING (key) GROUP BY fences.key, total, first, median, third, least, most
    )
"""
"""From ``valued(key, value, n)``, with distinct values for each key, the ``spreads`` of each key: quartiles as by
``percentile_cont``, and the outermost values within 1.5 times the box (Tukey)."""

SCORES = f"""
    WITH cells AS MATERIALIZED (
        SELECT '+' || position COLLATE "C" AS position, pass_score, score, n FROM (
            SELECT interview_id, score, count(*) AS n FROM (
                SELECT interview_id, CAST(score AS float8) AS score, clock_timestamp() AS volatile FROM moments
                WHERE began >= :start AND began < :end AND score IS NOT NULL
            ) AS scored GROUP BY 1, 2
        ) AS counted JOIN interviews ON interviews.id = interview_id
    ),
    valued AS (
        SELECT position AS key, score AS value, CAST(sum(n) AS bigint) AS n FROM cells GROUP BY 1, 2
        UNION ALL
        SELECT '', score, CAST(sum(n) AS bigint) FROM cells GROUP BY score
    ),
    {SPREADS},
    kept AS (SELECT * FROM spreads ORDER BY key <> '', total DESC, key LIMIT 1 + :positions)
    SELECT 'spread' AS what, key, total, ARRAY[low, first, median, third, high] AS numbers,
        (SELECT array_agg(value ORDER BY value) FROM (
            SELECT value FROM valued
            WHERE valued.key = kept.key AND kept.key <> '' AND (value < least OR value > most)
            ORDER BY abs(value - median) DESC LIMIT {OUTLIERS}
        ) AS outermost) AS others
    FROM kept
    UNION ALL
    SELECT 'bin', '', least(greatest(CAST(floor(score / 5) AS int), 0), 19), NULL, ARRAY[sum(n)] FROM cells GROUP BY 3
    UNION ALL
    SELECT 'pass', '', 0, NULL, array_agg(DISTINCT CAST(pass_score AS float8)) FROM cells HAVING count(*) > 0
"""  # noqa: S608 - our constants
"""The scores of the sessions that started in the period: the spread of all and of each position, the counts in bins of
five points, and the interviews' pass scores."""

BINS = 20


def spread(n: int, numbers: Iterable[Any]) -> Spread:
    """A row of ``spreads`` as a Spread."""
    low, first, median, third, high = map(float, numbers)
    return Spread(n, low, first, median, third, high)
