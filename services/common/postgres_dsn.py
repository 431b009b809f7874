"""The check of a Postgres URL that never repeats it: it holds a password; used by the settings of task_manager and storage."""

import psycopg
from psycopg.conninfo import conninfo_to_dict

from services.common.config import ConfigError


def check_dsn(dsn: str) -> None:
    """Raises ConfigError when `dsn` cannot be one."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # The text of the error quotes the setting.
        raise ConfigError("TUNESMITH_POSTGRES_DSN: expected postgresql://user:password@host:port/database") from None
