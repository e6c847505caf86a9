"""Hyper-parameter search: trials are ordinary runs, chosen on validation."""
