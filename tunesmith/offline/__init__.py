"""Checks and previews on this machine, without a server: the programs of the storage service themselves, run as children."""
