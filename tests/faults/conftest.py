"""Fixtures of the fault tests."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from tunesmith.local.postgres import Cluster

pytest.register_assert_rewrite("stream_contract", "stream_model", "filtered_stream_model")


@pytest.fixture(scope="module")
def module_dsn(postgres_server: Cluster) -> Iterator[str]:
    """URL of an empty database for all tests of a module."""
    name = f"module_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_server.dsn, autocommit=True) as admin:
        admin.execute(f'CREATE DATABASE "{name}"')
    yield postgres_server.dsn.rsplit("/", 1)[0] + "/" + name
    with psycopg.connect(postgres_server.dsn, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
