"""What is in a data set, what is wrong with it, what suits it."""
