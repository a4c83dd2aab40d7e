"""Tasks: a network, a loss, metrics, and inference."""
