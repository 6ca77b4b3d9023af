"""Demo data: a small platform with past sessions, sessions open now, and sessions of the next two weeks."""

from deployments.demo.live import run_live
from deployments.demo.load import load

__all__ = ["load", "run_live"]
