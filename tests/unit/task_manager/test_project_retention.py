"""A project's retention stands in for what its fine-tunings do not say."""

import datetime
from collections.abc import Iterator

import pytest
from google.protobuf.duration_pb2 import Duration
from unit.task_manager.test_kinds import NOBODY, Repository, Work
from unit.task_manager.test_webhook import SECRET

from services.common.config import ConfigError, load
from services.common.errors import Violation
from services.task_manager.creation import Patience, TaskCreation
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.kind import Kind
from services.task_manager.kinds.table import Kinds
from services.task_manager.kinds.work import Resolved, WorkKind
from services.task_manager.project_retention import ProjectRetention, parse_retentions
from services.task_manager.settings import TaskManagerSettings
from tunesmith.v1 import task_manager_service_pb2 as api
from tunesmith.v1.export_pb2 import Export
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec

LAB = {"project": "lab"}
RETENTION = ProjectRetention(parse_retentions(["lab=90d", "a=b=36h"]))


def a_spec(**fields: object) -> bytes:
    return TaskSpec(fine_tuning=FineTuning(base_model="baseModels/tiny", **fields)).SerializeToString(deterministic=True)


def kept(spec: bytes, labels: dict[str, str]) -> int:
    """Seconds; 0 = nothing is said."""
    return TaskSpec.FromString(RETENTION.applied(spec, labels)).fine_tuning.artifact_retention.seconds


@pytest.mark.parametrize(
    ("labels", "seconds"),
    [(LAB, 90 * 86400), ({"project": "a=b"}, 36 * 3600), ({"project": "other"}, 0), ({}, 0), ({"team": "lab"}, 0)],
    ids=str,
)
def test_the_project_decides_where_the_task_says_nothing(labels: dict[str, str], seconds: int) -> None:
    assert kept(a_spec(), labels) == seconds


def test_the_task_itself_decides_before_its_project() -> None:
    assert kept(a_spec(artifact_retention=Duration(seconds=7200)), LAB) == 7200


def test_nothing_else_of_the_spec_changes() -> None:
    spec = a_spec()
    assert RETENTION.applied(spec, {}) == spec
    changed = TaskSpec.FromString(RETENTION.applied(spec, LAB))
    changed.fine_tuning.ClearField("artifact_retention")
    assert changed.SerializeToString(deterministic=True) == spec


def test_other_kinds_are_kept_as_storage_keeps_them() -> None:
    spec = TaskSpec(export=Export(artifact="artifacts/1")).SerializeToString(deterministic=True)
    assert RETENTION.applied(spec, LAB) == spec


class Tuning(Work):
    """A fine-tuning with which nothing is wrong."""

    def violations(self) -> Iterator[Violation]:
        return iter(())

    async def resolve(self, *, patience: float, continued: Hyperparameters | None = None) -> Resolved:
        return Resolved(kind=Kind.FINE_TUNING, spec=self.spec())


async def test_a_task_is_recorded_and_previewed_with_what_its_project_keeps() -> None:
    repository = Repository()
    creation = TaskCreation(
        repository=repository,  # type: ignore[arg-type]
        kinds=Kinds([WorkKind(Kind.FINE_TUNING, Tuning)]),
        origins=NOBODY,
        roster=NOBODY,
        patience=Patience(1.0, 1.0),
        retention=RETENTION,
    )
    asked = api.CreateTaskRequest(task=Task(display_name="n", labels=LAB, spec=TaskSpec.FromString(a_spec())))
    await creation.create(asked)
    shown = await creation.preview(asked)
    assert TaskSpec.FromString(repository.created[0].spec).fine_tuning.artifact_retention.seconds == 90 * 86400
    assert shown.spec.fine_tuning.artifact_retention.seconds == 90 * 86400


@pytest.mark.parametrize("entry", ["lab", "lab=", "=3d", "lab=soon", "lab=59m", "lab=366d", "lab=3"])
def test_what_is_no_retention_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="expected a project and a duration"):
        parse_retentions(["demo=2d", entry])


def test_a_project_comes_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_retentions(["lab=2d", "lab=3d"])


def environment(retentions: str) -> dict[str, str]:
    return {
        "TUNESMITH_POSTGRES_DSN": "postgresql://u:p@127.0.0.1/db",
        "TUNESMITH_TASK_MANAGER_LISTEN": "127.0.0.1:1",
        "TUNESMITH_TASK_MANAGER_STORAGE_ADDRESS": "127.0.0.1:2",
        "TUNESMITH_TASK_MANAGER_TRAINER_ADDRESSES": "127.0.0.1:3",
        "TUNESMITH_TASK_MANAGER_WEBHOOK_SECRET": SECRET,
        "TUNESMITH_TASK_MANAGER_PROJECT_RETENTIONS": retentions,
    }


def test_the_setting_is_read_at_the_start() -> None:
    settings = load(TaskManagerSettings, "TUNESMITH_TASK_MANAGER_", environment("lab=90d,demo=2d"))
    assert parse_retentions(settings.project_retentions)["demo"] == datetime.timedelta(days=2)
    with pytest.raises(ConfigError, match="PROJECT_RETENTIONS: 'lab=never'"):
        load(TaskManagerSettings, "TUNESMITH_TASK_MANAGER_", environment("lab=never"))
