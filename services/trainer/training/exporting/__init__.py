"""Other forms of what a task has learned: a process of its own that merges, verifies and writes; `python -m` this package."""
