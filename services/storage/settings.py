"""What the storage service can be told from outside; read by `__main__`."""

import dataclasses
import datetime
import pathlib
import re
import urllib.parse

from services.common.config import ConfigError, Secret, shared
from services.common.postgres_dsn import check_dsn
from services.common.server import ServerSettings
from services.storage.file import is_safe_path
from services.storage.object_store import OWN_PREFIXES
from services.storage.retention import Policy

# The database has no year 300,000.
_LONGEST_KEPT = datetime.timedelta(days=36500)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


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
    """How long artifacts are kept, at most 36500d."""
    artifact_expiry_grace: datetime.timedelta = shared(  # noqa: RUF009 - makes a dataclass field
        "TUNESMITH_ARTIFACT_EXPIRY_GRACE", default=datetime.timedelta(hours=72)
    )
    """How long an expired artifact can be restored before its bytes are deleted, at most 36500d."""
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
    import_root: pathlib.Path | None = None
    """Directory of this machine below which models may be registered and imported; none = from no directory."""
    import_s3: str = ""
    """Bucket and prefix at the S3 server below which they may lie, as bucket/prefix; empty = from no bucket."""
    analyses: int = 2
    """Datasets whose tokens are counted at once; each takes a process."""

    def __post_init__(self) -> None:
        ServerSettings.__post_init__(self)
        check_dsn(self.postgres_dsn)
        _check_endpoint("TUNESMITH_S3_ENDPOINT", self.s3_endpoint)
        if self.s3_public_endpoint not in ("", "off"):
            _check_endpoint("TUNESMITH_STORAGE_S3_PUBLIC_ENDPOINT", self.s3_public_endpoint)
        self._check_import_places()
        if not datetime.timedelta(0) < self.artifact_retention <= _LONGEST_KEPT:
            raise ConfigError("TUNESMITH_ARTIFACT_RETENTION: expected a duration above zero and up to 36500d, such as 15d")
        if self.artifact_expiry_grace > _LONGEST_KEPT:
            raise ConfigError("TUNESMITH_ARTIFACT_EXPIRY_GRACE: expected a duration up to 36500d, such as 72h")
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

    def _check_import_places(self) -> None:
        root = self.import_root
        if root is not None and (not root.is_absolute() or len(root.parts) == 1):
            raise ConfigError(f"TUNESMITH_STORAGE_IMPORT_ROOT={str(root)!r}: expected the absolute path of a directory below /")
        bucket, prefix = self.import_bucket_and_prefix
        if self.import_s3 and not (_BUCKET.fullmatch(bucket) and (not prefix or is_safe_path(prefix.rstrip("/")))):
            raise ConfigError(f"TUNESMITH_STORAGE_IMPORT_S3={self.import_s3!r}: expected bucket or bucket/prefix")
        # Whoever may import from there could read everybody's bytes.
        if bucket == self.s3_bucket and prefix.split("/")[0] in ("", *OWN_PREFIXES):
            message = f"expected a prefix in the bucket {bucket} other than {', '.join(OWN_PREFIXES)}"
            raise ConfigError(f"TUNESMITH_STORAGE_IMPORT_S3={self.import_s3!r}: {message}")

    @property
    def import_bucket_and_prefix(self) -> tuple[str, str]:
        """Of `import_s3`; the prefix is empty or ends with a slash."""
        bucket, _, prefix = self.import_s3.strip("/").partition("/")
        return bucket, f"{prefix}/" if prefix else ""

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
