"""Scripts that lie beside an exported run, and import nothing of medjax."""
