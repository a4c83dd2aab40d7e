"""The page that reads images."""
