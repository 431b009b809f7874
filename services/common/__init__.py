"""Shared library of the services; a closed list of modules without business logic."""
