"""Predictions on whole cases: windows, grids, members, files."""
