"""The HTTP service: predictions of a bundle, for programs."""
