"""Why a model answers as it does, each explanation with its own test."""
