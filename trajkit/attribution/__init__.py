"""Which image regions ground a reasoning step: regions, attention tap, features, ablation, estimator, stream."""
