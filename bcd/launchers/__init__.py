"""One way to start work elsewhere, for sweeps, folds and prediction alike: a file here and a YAML in `conf/launcher/` for each."""
