"""What an API says of itself at /metrics."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.processes import Api

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def measured(api: Api) -> Samples:
    """Every sample by its name and labels."""
    answer = httpx.get(f"{api.url}/metrics", trust_env=False, timeout=20)
    assert answer.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
