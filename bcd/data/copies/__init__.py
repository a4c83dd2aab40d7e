"""Near-copies of images."""
