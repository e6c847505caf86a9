"""Data: files and prepared sets in, batches on devices out."""
