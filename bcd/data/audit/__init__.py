"""What is odd in a data set."""
