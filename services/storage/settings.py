"""What the storage service can be told from outside; read by `__main__`."""

import dataclasses
import datetime
import urllib.parse

from services.common.config import ConfigError, Secret, shared
from services.common.postgres_dsn import check_dsn
from services.common.server import ServerSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class StorageSettings(ServerSettings):
    """Settings with the prefix `TUNESMITH_STORAGE_`, and those that several services share."""

    postgres_dsn: Secret = shared("TUNESMITH_POSTGRES_DSN")
    """Where the facts are; the schema is `storage`."""
    s3_endpoint: str = shared("TUNESMITH_S3_ENDPOINT")
    """Where the bytes are, as http://host:port or https://host:port."""
    s3_access_key: Secret = shared("TUNESMITH_S3_ACCESS_KEY")
    """Name of the S3 account."""
    s3_secret_key: Secret = shared("TUNESMITH_S3_SECRET_KEY")
    """Secret of the S3 account."""
    s3_bucket: str = shared("TUNESMITH_S3_BUCKET")
    """Bucket for everything; made at start when it is missing."""
    artifact_retention: datetime.timedelta = shared(  # noqa: RUF009 - makes a dataclass field
        "TUNESMITH_ARTIFACT_RETENTION", default=datetime.timedelta(days=15)
    )
    """How long artifacts are kept."""
    s3_region: str = shared("TUNESMITH_S3_REGION", default="us-east-1")
    """Region of the bucket; servers other than AWS accept any."""
    start_timeout: datetime.timedelta = datetime.timedelta(seconds=60)
    """How long to wait at start for Postgres and S3."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)
        check_dsn(self.postgres_dsn)
        address = urllib.parse.urlsplit(self.s3_endpoint)
        if address.scheme not in ("http", "https") or not address.netloc or address.path.strip("/"):
            raise ConfigError(f"TUNESMITH_S3_ENDPOINT={self.s3_endpoint!r}: expected http://host:port or https://host:port")
        if self.artifact_retention <= datetime.timedelta(0):
            raise ConfigError("TUNESMITH_ARTIFACT_RETENTION: expected a duration above zero, such as 15d")
