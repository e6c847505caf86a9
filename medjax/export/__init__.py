"""A trained run as files that predict without medjax."""
