"""The page in the browser: predictions for images, and the runs that models came from."""
