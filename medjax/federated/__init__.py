"""Federated learning: one model of several sites, whose cases stay there."""
