"""A Postgres URL is checked without being repeated."""

import pytest

from services.common.config import ConfigError
from services.common.postgres_dsn import check_dsn


@pytest.mark.parametrize("dsn", ["postgresql://user:pw@host:5432/db", "host=localhost dbname=db", "postgresql:///db?host=/run"])
def test_what_can_be_a_dsn_passes(dsn: str) -> None:
    check_dsn(dsn)


@pytest.mark.parametrize("dsn", ["postgresql//user:s3cret@host/db", "s3cret", "postgresql://h/db?nonsense=s3cret"])
def test_what_cannot_is_refused_without_the_password(dsn: str) -> None:
    with pytest.raises(ConfigError, match="TUNESMITH_POSTGRES_DSN") as caught:
        check_dsn(dsn)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
