"""What evaluations and generations have in common: a dataset is fetched, and the process asks the inference service."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from services.common.errors import InvalidArgument, Violation
from services.common.names import resource_uuid
from services.trainer.fetching import Fetching
from services.trainer.persistence import Note
from services.trainer.run_directory import DatasetUse, Provenance, RunDirectory
from services.trainer.storage_client import Adapter
from tunesmith.v1 import artifact_pb2

MODULE = "services.trainer.answering"


@dataclasses.dataclass(frozen=True, slots=True)
class Asking:
    """One ask."""

    dataset: str
    models: tuple[str, ...]
    display_name: str = ""
    """Of the new dataset."""
    answers_in_rows: bool = False
    """No model is asked."""

    @property
    def num_processes(self) -> int:
        """The inference service does the work."""
        return 1


def check_ask(ask: Asking, field: str) -> None:
    """Raises InvalidArgument naming the field that is wrong; models are for the inference service to judge."""
    resource_uuid(ask.dataset, "datasets", f"{field}.dataset")
    if bool(ask.models) == ask.answers_in_rows or not all(ask.models):
        raise InvalidArgument(
            Violation(f"{field}.models", "at least one model is asked, or none when the answers are in the rows")
        )


async def fetch(run: RunDirectory, dataset: str, fetching: Fetching, note: Note) -> Provenance:
    """The rows to ask about."""
    use = await fetching.dataset(dataset, run.training_data, 1.0, note)
    return Provenance("", "", use.sha256, (use,))


def config(run: RunDirectory, **more: Mapping[str, Any]) -> dict[str, Any]:
    """What the process reads as config.json, with what a kind adds."""
    spec = json.loads(run.request.document)["spec"]
    return {"run": str(run.request.name), "spec": spec, "data": str(run.training_data), **more}


def manifest(adapter: Adapter) -> artifact_pb2.ArtifactManifest:
    """See RunKind."""
    return artifact_pb2.ArtifactManifest(
        dataset_sha256=adapter.provenance.dataset_sha256, datasets=[_use(use) for use in adapter.provenance.datasets]
    )


def _use(use: DatasetUse) -> artifact_pb2.DatasetUse:
    return artifact_pb2.DatasetUse(dataset=use.dataset, sha256=use.sha256, rows_sha256=use.rows_sha256, weight=use.weight)
