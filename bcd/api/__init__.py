"""The service: a bundle behind HTTP, for programs."""
