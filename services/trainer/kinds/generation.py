"""Generation runs: a model answers the rows of a dataset, and the answers are stored as another dataset."""

from typing import cast

from services.trainer.fetching import Fetching
from services.trainer.journal import Event
from services.trainer.kinds import asking
from services.trainer.kinds.asking import Asking
from services.trainer.kinds.kind import Prepared, RunKind, Uploads
from services.trainer.persistence import Note
from services.trainer.run_directory import RunDirectory
from tunesmith.v1 import trainer_service_pb2

GENERATED = "generated.jsonl"
"""As services.trainer.answering.generation writes it."""


def check(run: trainer_service_pb2.Run) -> None:
    """See RunKind."""
    asking.check_ask(read(run), "run.spec.generation")


def read(run: trainer_service_pb2.Run) -> Asking:
    """See RunKind."""
    spec = run.spec.generation
    return Asking(spec.dataset, (spec.model,), spec.output_display_name)


async def prepare(run: RunDirectory, fetching: Fetching, note: Note) -> Prepared:
    """See RunKind."""
    provenance = await asking.fetch(run, cast(Asking, run.request.ask).dataset, fetching, note)
    return Prepared(provenance, asking.config(run))


async def news(run: RunDirectory, uploads: Uploads) -> list[Event]:
    """See RunKind. The same rows under the same display name are the same dataset, so that a repeat stores nothing new."""
    result, rows = run.found("generation"), run.path / GENERATED
    if rows.stat().st_size:
        name = cast(Asking, run.request.ask).display_name or f"Answers of tasks/{run.request.name.task_id}"
        result |= {"dataset": await uploads.upload_dataset(name, rows)}
    return [Event("generation_finished", {"result": result})]


def leavings(run: RunDirectory, artifact: str) -> list[Event]:
    """See RunKind."""
    return [Event("generation_finished", {"result": run.found("generation") | {"partial_artifact": artifact}})]


GENERATION = RunKind(
    *("generation", asking.MODULE, check, read, prepare, asking.manifest), news=news, leavings=leavings, asks_models=True
)
