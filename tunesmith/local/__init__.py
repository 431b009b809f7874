"""The whole platform on one machine: `tunesmith up` and its tests use it."""
