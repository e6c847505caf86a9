"""Runs without training."""

from drawn_runs import make_run as make_run
