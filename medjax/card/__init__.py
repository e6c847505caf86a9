"""Model cards: what a run is, each number read from it and with its source."""
