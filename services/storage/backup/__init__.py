"""Backups of database and bytes, and their way back; a process of its own, started by `tunesmith backup` and `restore`."""
