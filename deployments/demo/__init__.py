"""Demo data: a small platform with a past, a present that moves, and a fortnight ahead."""

from deployments.demo.live import run_live
from deployments.demo.load import load

__all__ = ["load", "run_live"]
