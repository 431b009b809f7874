"""What a local stack consists of: which children, with which command, settings and order; used by `tunesmith up`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals

from tunesmith.local import health
from tunesmith.local.child_process import ChildSpec
from tunesmith.local.errors import LocalError
from tunesmith.local.object_store import PORT_COUNT, ObjectStore
from tunesmith.local.ports import LOOPBACK, keep_or_pick
from tunesmith.local.postgres import Cluster, environment, identity_prefix
from tunesmith.local.state import API_KEY_FILE, KeptSettings

SERVICES = ("storage", "task_manager", "trainer", "inference", "gateway")
_NEEDS = {"storage": ("postgres", "object_store"), "gateway": ("storage", "task_manager", "inference")}
BUCKET = "tunesmith"
_PREFIX = "TUNESMITH_"
_SECRETS = ("TUNESMITH_POSTGRES_", "TUNESMITH_S3_")  # given to those who need them, by name


@dataclass(frozen=True, slots=True)
class Backends:
    """Where Postgres and S3 are; `cluster` and `store` are None when the user brought their own."""

    postgres_dsn: str
    s3: Mapping[str, str]
    cluster: Cluster | None
    store: ObjectStore | None


def choose_backends(
    root: Path, kept: KeptSettings, given: Mapping[str, str], pick: Callable[[list[int], int], list[int]] = keep_or_pick
) -> tuple[Backends, KeptSettings]:
    """What the environment names, else embedded servers on free ports: the remembered ones where they are still free."""
    cluster, store = None, None
    dsn = given.get("TUNESMITH_POSTGRES_DSN", "")
    if not dsn:
        kept = replace(kept, postgres_ports=pick(kept.postgres_ports, 1))
        cluster = Cluster(directory=root / "postgres", password=kept.postgres_password, port=kept.postgres_ports[0])
        dsn = cluster.dsn
    s3 = {name: value for name, value in given.items() if name.startswith("TUNESMITH_S3_")}
    if "TUNESMITH_S3_ENDPOINT" not in s3:
        kept = replace(kept, s3_ports=pick(kept.s3_ports, PORT_COUNT))
        store = ObjectStore(root / "s3", kept.s3_access_key, kept.s3_secret_key, tuple(kept.s3_ports))
        s3 |= {
            "TUNESMITH_S3_ENDPOINT": store.endpoint,
            "TUNESMITH_S3_ACCESS_KEY": store.access_key,
            "TUNESMITH_S3_SECRET_KEY": store.secret_key,
        }
    return Backends(dsn, {"TUNESMITH_S3_BUCKET": BUCKET, **s3}, cluster, store), kept


def backend_specs(backends: Backends) -> list[ChildSpec]:
    """The embedded servers."""
    specs = []
    if cluster := backends.cluster:
        specs.append(
            ChildSpec(
                name="postgres",
                command=cluster.command(),
                environment=environment(),
                is_ready=lambda: asyncio.to_thread(cluster.is_ready),
                prefix=identity_prefix(),
                stop_signal=Signals.SIGINT,
                prepare=cluster.initialise,
            )
        )
    if store := backends.store:
        specs.append(
            ChildSpec(
                name="object_store",
                command=store.command(),
                environment=store.environment(),
                is_ready=lambda: asyncio.to_thread(store.is_ready),
                prepare=store.initialise,
            )
        )
    return specs


def service_specs(root: Path, ports: Mapping[str, int], backends: Backends, given: Mapping[str, str]) -> list[ChildSpec]:
    """The services, each with its own settings."""
    addresses = {name: f"{LOOPBACK}:{port}" for name, port in ports.items()}
    settings = _service_settings(root, addresses, backends)
    return [
        ChildSpec(
            name=name,
            command=(sys.executable, "-P", "-m", f"services.{name}"),
            environment={**_inherited(name, given), **settings[name], **(_gateway_key(root, given) if name == "gateway" else {})},
            is_ready=_probe(name, addresses[name]),
            needs=_NEEDS.get(name, ("storage",)),
            # The trainer ends its runs on a final stop. A task manager that saw that would call their tasks failed.
            stopped_before=("trainer",) if name == "task_manager" else (),
            # SIGINT tells the trainer to end its runs too; SIGTERM would leave them to its successor.
            stop_signal=Signals.SIGINT if name == "trainer" else Signals.SIGTERM,
        )
        for name in SERVICES
    ]


def _service_settings(root: Path, addresses: Mapping[str, str], backends: Backends) -> dict[str, dict[str, str]]:
    postgres = {"TUNESMITH_POSTGRES_DSN": backends.postgres_dsn}
    storage, cache = addresses["storage"], str(root / "cache")
    return {
        # Uploads are spooled; /tmp is memory on some systems.
        "storage": {
            "TUNESMITH_STORAGE_LISTEN": storage,
            "TUNESMITH_STORAGE_TASK_MANAGER_ADDRESS": addresses["task_manager"],
            "TUNESMITH_STORAGE_CACHE_DIR": str(root / "tokenizers"),
            "TMPDIR": str(root / "tmp"),
            **postgres,
            **backends.s3,
        },
        "task_manager": {
            "TUNESMITH_TASK_MANAGER_LISTEN": addresses["task_manager"],
            "TUNESMITH_TASK_MANAGER_STORAGE_ADDRESS": storage,
            "TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES": addresses["trainer"],
            **postgres,
        },
        "trainer": {
            "TUNESMITH_TRAINER_LISTEN": addresses["trainer"],
            "TUNESMITH_TRAINER_STORAGE_ADDRESS": storage,
            "TUNESMITH_TRAINER_INFERENCE_ADDRESS": addresses["inference"],
            "TUNESMITH_TRAINER_DATA_DIR": str(root / "trainer"),
            "TUNESMITH_TRAINER_CACHE_DIR": cache,
        },
        "inference": {
            "TUNESMITH_INFERENCE_LISTEN": addresses["inference"],
            "TUNESMITH_INFERENCE_STORAGE_ADDRESS": storage,
            "TUNESMITH_INFERENCE_CACHE_DIR": cache,
        },
        "gateway": {
            "TUNESMITH_GATEWAY_LISTEN": addresses["gateway"],
            "TUNESMITH_GATEWAY_TASK_MANAGER_ADDRESS": addresses["task_manager"],
            "TUNESMITH_GATEWAY_STORAGE_ADDRESS": storage,
            "TUNESMITH_GATEWAY_INFERENCE_ADDRESS": addresses["inference"],
        },
    }


def _gateway_key(root: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The key of the data directory, unless the user has chosen one."""
    name = "TUNESMITH_GATEWAY_API_KEY"
    return {} if name in given or f"{name}_FILE" in given else {f"{name}_FILE": str(root / API_KEY_FILE)}


def _inherited(service: str, given: Mapping[str, str]) -> dict[str, str]:
    """The user's environment without what is meant for others: a service refuses names of its own that it does not know,
    and has no use for anybody else's secrets. `TUNESMITH_<SERVICE>_ADDRESS` tells clients where a service is.
    """
    others = tuple(f"{_PREFIX}{other.upper()}_" for other in SERVICES if other != service)
    not_for_it = (*others, *_SECRETS, f"{_PREFIX}API_KEY", f"{_PREFIX}{service.upper()}_ADDRESS")
    kept = {name: value for name, value in given.items() if not name.startswith(not_for_it)}
    return {"PYTHONUNBUFFERED": "1", **kept}


def _probe(name: str, address: str) -> Callable[[], Awaitable[bool]]:
    return lambda: health.is_serving(address, http=name in health.HTTP_SERVICES)


def resolve_files(given: Mapping[str, str]) -> dict[str, str]:
    """The environment with `NAME_FILE` of a secret replaced by NAME with the file's contents.

    Raises:
        LocalError: SETTING_UNREADABLE.
    """
    resolved = dict(given)
    for name in [name for name in given if name.startswith(_SECRETS) and name.endswith("_FILE")]:
        try:
            resolved[name.removesuffix("_FILE")] = Path(resolved.pop(name)).read_text().strip()
        except OSError as error:
            message = f"{name} names {given[name]}, which cannot be read: {error.strerror}"
            raise LocalError("SETTING_UNREADABLE", message, f"Correct the path, or set {name.removesuffix('_FILE')}.") from error
    return resolved
