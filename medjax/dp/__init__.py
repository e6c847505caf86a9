"""Differential privacy of training: how it is accounted for, and done."""
