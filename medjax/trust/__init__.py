"""How far a run may be trusted: stress, and adaptation to what it meets."""
