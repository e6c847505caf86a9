"""The files and the life of one run."""
