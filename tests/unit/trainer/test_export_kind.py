"""A run of kind export: what it asks for, what is brought to it, and what its result says of its origin."""

import json
import pathlib
import uuid
from typing import Any

import pytest
from trainer_values import NOW, TASK

from services.common.bundles import Bundle
from services.common.errors import InvalidArgument, ServiceError
from services.trainer import conversion
from services.trainer.fetching import Fetching
from services.trainer.kinds.table import KINDS, describe
from services.trainer.run_directory import Result, RunDirectory
from services.trainer.storage_client import Adapter
from services.trainer.training.exporting.config import load_config
from tunesmith.v1 import artifact_pb2, export_pb2, task_spec_pb2, trainer_service_pb2

SOURCE = f"artifacts/{uuid.UUID(int=9)}"
PARENT = artifact_pb2.ArtifactManifest(
    task=f"tasks/{uuid.UUID(int=8)}",
    step=12,
    attempt=3,
    base_model="baseModels/tiny",
    base_model_revision="r1",
    dataset_sha256="aa",
    metrics={"loss": 0.5},
    labels=["good"],
    method=task_spec_pb2.FineTuning.SFT,
    tuning=task_spec_pb2.FineTuning.LORA,
    versions={"torch": "1"},
    effective_hyperparameters=task_spec_pb2.Hyperparameters(
        seed=3,
        lora=task_spec_pb2.Lora(rank=4, alpha=8, dropout=0.0, target_modules=["all-linear"], use_rslora=False, use_dora=True),
    ),
    files=[artifact_pb2.File(path="adapter_model.safetensors")],
)


def make_run(**changes: Any) -> trainer_service_pb2.Run:
    asked = {"artifact": SOURCE, "format": export_pb2.Export.MERGED} | changes
    spec = task_spec_pb2.TaskSpec(export=export_pb2.Export(**asked))
    return trainer_service_pb2.Run(name=f"runs/{TASK}-1", task=f"tasks/{TASK}", attempt=1, epoch=3, spec=spec)


@pytest.fixture
def run(tmp_path: pathlib.Path) -> RunDirectory:
    return RunDirectory.create(tmp_path, conversion.request_from_proto(make_run(), NOW))


class Bundles:
    """Storage's files; `revision` is that of today's base model, `kind` the artifact's."""

    def __init__(self, root: pathlib.Path, kind: str = "ADAPTER", revision: str = "r1") -> None:
        self.root, self.kind, self.revision = root, kind, revision

    async def base_model(self, name: str) -> Bundle:
        return Bundle(name, self.root / "base", name, self.revision)

    async def artifact(self, name: str) -> Bundle:
        manifest = PARENT.SerializeToString()
        return Bundle(name, self.root / "source", PARENT.base_model, "r1", kind=self.kind, manifest=manifest)


def note(text: str, severity: str = "INFO") -> None:
    pass


async def prepared(run: RunDirectory, bundles: Bundles) -> RunDirectory:
    found = await KINDS["export"].prepare(run, Fetching(None, bundles, lambda: 0.0), note)  # type: ignore[arg-type]
    run.record_preparation(found.provenance, found.config)
    return run


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"artifact": "tasks/x"}, "artifact"),
        ({"artifact": ""}, "artifact"),
        ({"format": 0}, "format"),
        ({"format": 77}, "format"),
        ({"gguf_type": 77}, "gguf_type"),
    ],
    ids=["another resource", "none", "no format", "unknown format", "unknown type"],
)
def test_what_the_task_manager_never_sends_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(make_run(**changes), NOW)
    assert [violation.field for violation in caught.value.violations] == [f"run.spec.export.{field}"]


def test_a_request_survives_the_disk_and_is_one_process(run: RunDirectory) -> None:
    assert conversion.request_from_document(run.request.document) == run.request
    assert (run.request.kind, run.request.num_processes) == ("export", 1)


async def test_the_configuration_is_what_the_process_reads(run: RunDirectory, tmp_path: pathlib.Path) -> None:
    await prepared(run, Bundles(tmp_path))

    config = load_config(run.path / "config.json")

    assert (config.base_model, config.base_model_dir, config.source_dir) == (
        "baseModels/tiny",
        tmp_path / "base",
        tmp_path / "source",
    )
    assert (config.source_kind, config.step, config.lora, config.format, config.gguf_type) == (
        "ADAPTER",
        12,
        None,
        "MERGED",
        "F16",
    )
    assert config.output_dir == run.output


async def test_a_checkpoint_comes_with_the_numbers_of_its_adapter(run: RunDirectory, tmp_path: pathlib.Path) -> None:
    await prepared(run, Bundles(tmp_path, kind="CHECKPOINT"))
    lora = load_config(run.path / "config.json").lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.target_modules, lora.use_dora, lora.last_layers) == (4, 8.0, ("all-linear",), True, 0)


async def test_another_base_model_under_the_same_name_is_refused(run: RunDirectory, tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServiceError) as caught:
        await prepared(run, Bundles(tmp_path, revision="r2"))
    assert caught.value.reason == "BASE_MODEL_UNUSABLE"


async def test_a_result_says_what_is_true_of_its_parent_and_nothing_that_is_not(
    run: RunDirectory, tmp_path: pathlib.Path
) -> None:
    await prepared(run, Bundles(tmp_path))
    assert "parent_manifest" in json.loads((run.path / "provenance.json").read_text())
    result = Result("MERGED", 12, {"export_positions": 5.0}, "", {})
    adapter = Adapter(run.output, (), f"tasks/{TASK}", run.provenance(), result, run.request, "r")

    told = describe(adapter)

    assert (told.parent, told.base_model, told.dataset_sha256, told.metrics["loss"]) == (SOURCE, "baseModels/tiny", "aa", 0.5)
    assert (told.method, told.tuning, told.effective_hyperparameters.seed) == (PARENT.method, PARENT.tuning, 3)
    for name in ("files", "task", "step", "attempt", "labels", "versions"):
        assert not getattr(told, name), name
