"""Checks datasets in a process of its own, `python -m services.storage.checking`; used by the storage service and the CLI."""
