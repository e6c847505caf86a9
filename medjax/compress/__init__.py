"""Smaller and faster versions of a trained run, with their price."""
