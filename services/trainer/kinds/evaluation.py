"""Evaluation runs: models answer the rows of a dataset; what they were trained on is fetched, too, to look for leaks."""

import dataclasses
from collections.abc import Mapping
from typing import cast

from services.trainer.fetching import Fetching
from services.trainer.journal import Event
from services.trainer.kinds import asking
from services.trainer.kinds.asking import Asking
from services.trainer.kinds.kind import Prepared, RunKind, Uploads
from services.trainer.persistence import Note
from services.trainer.run_directory import RunDirectory
from services.trainer.storage_client import Learned
from tunesmith.v1 import trainer_service_pb2

_LARGEST_BYTES = 256 * 1024 * 1024


def check(run: trainer_service_pb2.Run) -> None:
    """See RunKind."""
    asking.check_ask(read(run), "run.spec.evaluation")


def read(run: trainer_service_pb2.Run) -> Asking:
    """See RunKind."""
    ask = run.spec.evaluation
    return Asking(ask.dataset, tuple(ask.models), answers_in_rows=ask.answers_in_rows)


async def prepare(run: RunDirectory, fetching: Fetching, note: Note) -> Prepared:
    """See RunKind."""
    ask = cast(Asking, run.request.ask)
    provenance = await asking.fetch(run, ask.dataset, fetching, note)
    learned = {model: await fetching.learned(model, note) for model in dict.fromkeys(ask.models)}
    files = await _training_data(run, dict(each for one in learned.values() for each in one.datasets), fetching, note)
    trained_on = {model: _searched(model, each, files, note) for model, each in learned.items()}
    splits = {model: dataclasses.asdict(each.split) for model, each in learned.items() if each.split}
    steps = {model: each.step for model, each in learned.items() if each.step}
    return Prepared(provenance, asking.config(run, trained_on=trained_on, splits=splits, steps=steps))


async def news(run: RunDirectory, uploads: Uploads) -> list[Event]:
    """See RunKind."""
    return [Event("evaluation_finished", {"result": run.found("evaluation")})]


EVALUATION = RunKind("evaluation", asking.MODULE, check, read, prepare, asking.manifest, news=news, asks_models=True)


def _searched(model: str, learned: Learned, files: Mapping[str, str], note: Note) -> dict[str, str]:
    """The files that are searched for rows of the evaluation: by all of them together it is known which rows were held out."""
    found = {name: files[name] for name, _ in learned.datasets if name in files}
    if learned.split and len(found) < learned.dataset_count:
        note(
            f"not all datasets of {model} can be read: which rows it held out is unknown, no leak is looked for",
            "WARNING",
        )
        return {}
    return found


async def _training_data(run: RunDirectory, sizes: Mapping[str, int], fetching: Fetching, note: Note) -> dict[str, str]:
    """Files of the datasets that models were trained on; very large ones are left out, and that is said."""
    found = {}
    for dataset, size in sizes.items():
        if size > _LARGEST_BYTES:
            note(f"{dataset} has {size / 1e6:,.0f} MB and is not searched for rows of the evaluation", "WARNING")
            continue
        target = run.path / "data" / f"trained-on-{dataset.removeprefix('datasets/')}.jsonl"
        found[dataset] = str(target)
        await fetching.dataset(dataset, target, 1.0, note)
    return found
