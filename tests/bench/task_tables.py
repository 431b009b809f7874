"""A task manager's database of a given size, made in the database itself; used by the measurements of the task manager."""

import contextlib
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1]))

from embedded import bound_to_this_process, running

from tunesmith.local.ports import pick_free
from tunesmith.local.postgres import Cluster, environment, identity_prefix
from tunesmith.v1 import task_spec_pb2

_FILL = """
INSERT INTO task_manager.task (id, display_name, description, labels, spec, effective_hyperparameters, processes, request_digest,
    state, state_reason, error, artifact, create_time, start_time, end_time, update_time, base_model, method, tuning, creator)
SELECT gen_random_uuid(), 'run ' || n || ' of the ' || (ARRAY['search', 'support', 'ranking', 'night'])[1 + n %% 4] || ' team',
    CASE WHEN n %% 100000 = 7 THEN 'a needle' ELSE 'nothing special about it' END,
    jsonb_build_object('team', 't' || n %% 20, 'user', 'u' || n %% 5000), %(spec)s, %(effective)s, 1 + n %% 2, 'd',
    state, 'because', CASE WHEN state = 'FAILED' THEN ''::bytea END, CASE WHEN state = 'SUCCEEDED' THEN 'artifacts/a' ELSE '' END,
    time, time, CASE WHEN state IN ('SUCCEEDED', 'FAILED', 'CANCELLED') THEN time END, time,
    'baseModels/m' || CASE WHEN n %% 10000 = 3 THEN 9 ELSE n %% 4 END, CASE WHEN n %% 20000 = 5 THEN 'KTO' ELSE 'SFT' END, 'LORA',
    CASE WHEN n %% 2 = 0 THEN 'user-' || n %% 40 ELSE '' END
FROM generate_series(1, %(count)s) AS n, LATERAL (SELECT (CASE WHEN n > %(count)s - %(queued)s THEN 'QUEUED'
    WHEN n %% 100000 = 11 THEN 'PAUSED' ELSE (ARRAY['SUCCEEDED', 'SUCCEEDED', 'FAILED', 'CANCELLED'])[1 + n %% 4] END
    )::task_manager.task_state AS state, now() - (%(count)s - n) * interval '10 seconds' AS time) AS facts
"""


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A Postgres of its own with the settings of `tunesmith up`; the URL of an empty database."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        directory = Path(folder)
        directory.chmod(0o700)
        cluster = Cluster(directory=directory / "data", password=secrets.token_hex(8), port=pick_free(1)[0])
        cluster.directory.mkdir(mode=0o700)
        cluster.initialise()
        command = (*identity_prefix(), *bound_to_this_process("SIGINT"), *cluster.command())
        with running(command, environment(), cluster.is_ready, directory / "log", signal.SIGINT):
            with psycopg.connect(cluster.dsn, autocommit=True) as connection:
                connection.execute("CREATE DATABASE bench")
            yield cluster.dsn.rsplit("/", 1)[0] + "/bench"


def fill(dsn: str, count: int, queued: int) -> None:
    """So many tasks, the newest of them waiting; triggers do not run, what they would write is written at once."""
    spec = task_spec_pb2.TaskSpec(
        fine_tuning=task_spec_pb2.FineTuning(base_model="baseModels/m1", dataset="datasets/" + "0" * 36)
    )
    effective = task_spec_pb2.Hyperparameters(learning_rate=2e-4, max_steps=100, lora=task_spec_pb2.Lora(rank=16))
    parameters = {"count": count, "queued": queued, "spec": spec.SerializeToString(), "effective": effective.SerializeToString()}
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(_FILL, parameters)
        connection.execute("INSERT INTO task_manager.event_head (task_id) SELECT id FROM task_manager.task")
        connection.execute(
            "INSERT INTO task_manager.task_text (task_id, words)"
            " SELECT id, display_name || E'\\n' || description FROM task_manager.task"
        )
        connection.execute("INSERT INTO task_manager.task_total SELECT state, count(*) FROM task_manager.task GROUP BY state")
        connection.execute("VACUUM ANALYZE")
