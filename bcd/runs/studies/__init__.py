"""Studies over several runs."""
