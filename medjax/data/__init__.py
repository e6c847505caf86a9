"""From files and records to cases, and from cases to batches."""
