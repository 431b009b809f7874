"""The services of Tunesmith; each is started with `python -m services.<name>`."""
