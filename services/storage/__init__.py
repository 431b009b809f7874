"""Keeps datasets, artifacts and base models: bytes in S3, facts in Postgres."""
