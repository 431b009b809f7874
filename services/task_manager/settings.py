"""What the task manager can be told; read by `__main__` from TUNESMITH_TASK_MANAGER_*."""

import dataclasses
import datetime
import pathlib

from services.common.config import ConfigError, Secret, shared
from services.common.postgres_dsn import check_dsn
from services.common.server import ServerSettings
from services.task_manager.domain.webhook import DEFAULT_KINDS, KINDS, Endpoint, parse_endpoint
from services.task_manager.project_retention import parse_retentions


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskManagerSettings(ServerSettings):
    """Settings of one task manager; several may share one database."""

    postgres_dsn: Secret = shared("TUNESMITH_POSTGRES_DSN")
    """URL of the database."""
    storage_address: str
    """The storage service as host:port."""
    trainer_addresses: tuple[str, ...]
    """The trainers as host:port, separated by commas."""
    peer_api_key: Secret = Secret("")
    """Key sent to storage and trainers; empty = none."""
    trainer_tls_ca: pathlib.Path | None = None
    """PEM file of the authority that signed the certificates of trainers on other machines; unset = no TLS, as on this one."""
    lease: datetime.timedelta = datetime.timedelta(seconds=15)
    """How long a claim lives without being renewed; then another task manager adopts the task."""
    lease_renewal: datetime.timedelta = datetime.timedelta(seconds=5)
    """Time between two renewals; well below `lease`."""
    dispatch_interval: datetime.timedelta = datetime.timedelta(seconds=0.5)
    """Longest time between two looks at the queue."""
    retry_interval: datetime.timedelta = datetime.timedelta(seconds=1)
    """Time between two tries to reach a trainer about a run."""
    flush_interval: datetime.timedelta = datetime.timedelta(seconds=0.1)
    """How long events of a run are gathered before they are stored."""
    start_timeout: datetime.timedelta = datetime.timedelta(seconds=60)
    """How long a trainer may refuse a claimed task for want of room before the task goes back to the queue."""
    orphan_interval: datetime.timedelta = datetime.timedelta(seconds=10)
    """Time between two looks for runs that no task wants any more."""
    compaction_delay: datetime.timedelta = datetime.timedelta(hours=1)
    """How long after its end the events of a task stay in Postgres; then they go to storage."""
    compaction_interval: datetime.timedelta = datetime.timedelta(minutes=1)
    """Time between two looks for tasks whose events go to storage."""
    heartbeat_interval: datetime.timedelta = datetime.timedelta(seconds=15)
    """Longest silence of a stream."""
    watch_interval: datetime.timedelta = datetime.timedelta(seconds=1)
    """Longest time between two looks of a stream into the store."""
    max_lost_runs: int = 3
    """Runs of a task that may be lost, or fail for the moment, until the task fails; a task may say otherwise."""
    place_by_memory: bool = True
    """Whether a task waits for a trainer with as much free memory as its run is expected to need."""
    project_max_queued: int = 0
    """Tasks of a project, which the label `project` names, that may wait at once; one more is refused. 0 = any number."""
    project_max_processes: int = 0
    """Processes that the running tasks of a project may have together; further tasks wait. 0 = any number."""
    project_retentions: tuple[str, ...] = ()
    """How long artifacts of fine-tunings are kept, by project, as lab=90d,demo=2d; a task may say otherwise."""
    retry_backoff: datetime.timedelta = datetime.timedelta(seconds=2)
    """Rest before the second attempt of a task whose run was lost; doubled with each loss, at most 5 minutes."""
    create_token_wait: datetime.timedelta = datetime.timedelta(seconds=20)
    """How long CreateTask waits for the tokens of the data to be counted; then it goes without."""
    plan_token_wait: datetime.timedelta = datetime.timedelta(minutes=2)
    """How long PlanTask waits for the tokens of the data to be counted."""
    webhook_url: Secret = Secret("")
    """Where signed events are sent by HTTP POST when tasks change; empty = nowhere."""
    webhook_secret: Secret = Secret("")
    """Key of the signatures: whsec_ and 24 to 64 bytes in base64."""
    webhook_kinds: tuple[str, ...] = DEFAULT_KINDS
    """Which events are sent: task. and a state in lower case, artifact.expiring, artifact.damaged, separated by commas."""
    webhook_allow_http: bool = False
    """Whether the URL may be http."""
    webhook_allow_private: bool = False
    """Whether the URL may lead to this machine or a private network."""
    webhook_interval: datetime.timedelta = datetime.timedelta(seconds=1)
    """Time between two looks for events to send."""
    webhook_artifact_interval: datetime.timedelta = datetime.timedelta(seconds=30)
    """Time between two looks for announcements of storage about artifacts, which comes up with some every few minutes."""
    postgres_wait: datetime.timedelta = datetime.timedelta(seconds=60)
    """How long to wait for Postgres at the start."""
    pool_size: int = 8
    """Connections to Postgres at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_dsn(self.postgres_dsn)
        if not self.trainer_addresses:
            raise ConfigError("TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES names no trainer")
        if self.lease_renewal * 2 > self.lease:
            raise ConfigError("TUNESMITH_TASK_MANAGER_LEASE must be at least twice TUNESMITH_TASK_MANAGER_LEASE_RENEWAL")
        if min(self.project_max_queued, self.project_max_processes) < 0:
            raise ConfigError("TUNESMITH_TASK_MANAGER_PROJECT_MAX_QUEUED and _PROJECT_MAX_PROCESSES must be 0 or more")
        try:
            parse_retentions(self.project_retentions)
        except ValueError as error:
            raise ConfigError(f"TUNESMITH_TASK_MANAGER_PROJECT_RETENTIONS: {error}") from error
        if unknown := sorted(set(self.webhook_kinds) - set(KINDS)):
            raise ConfigError(f"TUNESMITH_TASK_MANAGER_WEBHOOK_KINDS: {unknown[0]} is none of {', '.join(KINDS)}")
        self.webhook_endpoint()

    def trainer_authority(self) -> bytes | None:
        """What the certificates of trainers on other machines are checked with; None = no TLS. Raises ConfigError."""
        try:
            return self.trainer_tls_ca.read_bytes() if self.trainer_tls_ca else None
        except OSError as error:
            raise ConfigError(f"TUNESMITH_TASK_MANAGER_TRAINER_TLS_CA={self.trainer_tls_ca}: {error.strerror}") from error

    def webhook_endpoint(self) -> Endpoint | None:
        """Where events go, None = nowhere; raises ConfigError."""
        if not self.webhook_url:
            return None
        try:
            return parse_endpoint(self.webhook_url, self.webhook_secret, allow_http=self.webhook_allow_http)
        except ValueError as error:
            raise ConfigError(f"TUNESMITH_TASK_MANAGER_WEBHOOK_URL and _WEBHOOK_SECRET: {error}") from error
