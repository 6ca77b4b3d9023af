"""Demo data: a small platform with a past, a present that moves, and a fortnight ahead."""

from deployments.demo.loading import load
from deployments.demo.trickling import trickle

__all__ = ["load", "trickle"]
