"""One way to start work elsewhere: for sweeps, folds and prediction alike."""
