"""The page: images read in a browser, and the runs that models came from."""
