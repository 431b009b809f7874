"""What the storage service can be told from outside; read by `__main__`."""

import dataclasses
import datetime
import pathlib
import urllib.parse

from services.common.config import ConfigError, Secret, shared
from services.common.postgres_dsn import check_dsn
from services.common.server import ServerSettings
from services.storage.retention import Policy


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
    artifact_expiry_grace: datetime.timedelta = shared(  # noqa: RUF009 - makes a dataclass field
        "TUNESMITH_ARTIFACT_EXPIRY_GRACE", default=datetime.timedelta(hours=72)
    )
    """How long an expired artifact can be restored before its bytes are deleted."""
    s3_region: str = shared("TUNESMITH_S3_REGION", default="us-east-1")
    """Region of the bucket; servers other than AWS accept any."""
    start_timeout: datetime.timedelta = datetime.timedelta(seconds=60)
    """How long to wait at start for Postgres and S3."""
    s3_public_endpoint: str = ""
    """The S3 server as callers reach it, for uploads in parts; empty = as this service does, `off` = callers cannot reach it."""
    upload_lifetime: datetime.timedelta = datetime.timedelta(hours=24)
    """How long an upload may take; what it has left behind after that is removed. At most 7d."""
    sweep_interval: datetime.timedelta = datetime.timedelta(minutes=5)
    """Time between two looks at what has expired and what uploads have left behind."""
    sweep_limit: int = 1000
    """How many artifacts, and how many objects, one sweep ends at most."""
    scrub_interval: datetime.timedelta = datetime.timedelta(days=30)
    """Stored bytes are read and compared with their checksum again when they have not been for so long."""
    scrub_bytes_per_second: int = 4 * 2**20
    """How fast that goes at most, so that it disturbs nobody; the default reads 10 TB in 30 days."""
    sweep_dry_run: bool = False
    """Only log what would expire and be deleted."""
    task_manager_address: str = ""
    """Who is asked whether a live task needs a dataset before it is deleted, as host:port; empty = nobody."""
    peer_api_key: Secret = Secret("")
    """Key sent to the task manager; empty = none."""
    cache_dir: pathlib.Path | None = None
    """Where tokenizers of base models are kept for previews and counts, at most 512 MiB.

    Several services may share it; none = a temporary directory of this one."""
    analyses: int = 2
    """Datasets whose tokens are counted at once; each takes a process."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)
        check_dsn(self.postgres_dsn)
        _check_endpoint("TUNESMITH_S3_ENDPOINT", self.s3_endpoint)
        if self.s3_public_endpoint not in ("", "off"):
            _check_endpoint("TUNESMITH_STORAGE_S3_PUBLIC_ENDPOINT", self.s3_public_endpoint)
        if self.artifact_retention <= datetime.timedelta(0):
            raise ConfigError("TUNESMITH_ARTIFACT_RETENTION: expected a duration above zero, such as 15d")
        if not datetime.timedelta(seconds=1) <= self.upload_lifetime <= datetime.timedelta(days=7):
            raise ConfigError("TUNESMITH_STORAGE_UPLOAD_LIFETIME: expected a duration from 1s to 7d")
        if self.sweep_interval <= datetime.timedelta(0):
            raise ConfigError("TUNESMITH_STORAGE_SWEEP_INTERVAL: expected a duration above zero, such as 5m")
        if self.sweep_limit < 1:
            raise ConfigError("TUNESMITH_STORAGE_SWEEP_LIMIT: expected a number above zero, such as 1000")
        if self.scrub_interval <= datetime.timedelta(0):
            raise ConfigError("TUNESMITH_STORAGE_SCRUB_INTERVAL: expected a duration above zero, such as 30d")
        if self.scrub_bytes_per_second < 1:
            raise ConfigError("TUNESMITH_STORAGE_SCRUB_BYTES_PER_SECOND: expected a number above zero, such as 4194304")
        if self.analyses < 1:
            raise ConfigError("TUNESMITH_STORAGE_ANALYSES: expected a number above zero")

    @property
    def retention_policy(self) -> Policy:
        """How long artifacts are kept."""
        return Policy(self.artifact_retention, self.artifact_expiry_grace)

    @property
    def public_s3(self) -> str | None:
        """The S3 server as callers reach it, None when they cannot."""
        return None if self.s3_public_endpoint == "off" else self.s3_public_endpoint or self.s3_endpoint


def _check_endpoint(variable: str, endpoint: str) -> None:
    address = urllib.parse.urlsplit(endpoint)
    if address.scheme not in ("http", "https") or not address.netloc or address.path.strip("/"):
        raise ConfigError(f"{variable}={endpoint!r}: expected http://host:port or https://host:port")
