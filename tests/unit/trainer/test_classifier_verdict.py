"""What a fine-tuning tells of its result beside the artifact: of a head of labels, how good it is."""

import json
from pathlib import Path
from typing import Any

import pytest
from trainer_values import DATASET, NOW, TASK, make_run

from services.trainer import conversion
from services.trainer.kinds.table import KINDS, describe
from services.trainer.run_directory import DatasetUse, Provenance, RunDirectory
from services.trainer.storage_client import Adapter, StoredAdapter
from tunesmith.v1 import task_spec_pb2

ROWS = "artifacts/rows"
FOUND = {"row_count": 12, "primary_score": "accuracy", "summary": "better", "models": []}


def a_run(root: Path, *, skips: bool = False) -> RunDirectory:
    run = make_run()
    run.spec.fine_tuning.method = task_spec_pb2.FineTuning.CLASSIFICATION
    run.spec.fine_tuning.skip_evaluation = skips
    return RunDirectory.create(root, conversion.request_from_proto(run, NOW))


def leave(run: RunDirectory, **more: Any) -> None:
    record = {"kind": "ADAPTER", "step": 3, "metrics": {}, "rendered_rows_sha256": "", "versions": {}, **more}
    (run.path / "result.json").write_text(json.dumps(record))


class Storage:
    """Takes artifacts."""

    def __init__(self) -> None:
        self.taken: list[Adapter] = []

    async def upload_dataset(self, display_name: str, path: Path) -> str:
        raise AssertionError("no dataset is made of it")

    async def upload_adapter(self, adapter: Adapter) -> StoredAdapter:
        self.taken.append(adapter)
        return StoredAdapter(ROWS, 1, 2.0)


async def news(run: RunDirectory, storage: Storage | None = None) -> list[Any]:
    return list(await KINDS["fine_tuning"].news(run, storage or Storage()))


async def test_what_a_run_has_measured_itself_is_told_as_an_evaluation_is(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    leave(run, evaluation=FOUND)
    (event,) = await news(run)
    # A process from before rows were kept has left none.
    assert (event.kind, event.fields) == ("evaluation_finished", {"result": FOUND | {"rows_artifact": ""}})
    record = {"sequence": 1, "time": NOW, "kind": event.kind, **event.fields}
    assert conversion.event_to_proto(record, 1).evaluation_finished.result.primary_score == "accuracy"


async def test_the_rows_are_an_artifact_of_their_own_beside_the_weights(tmp_path: Path) -> None:
    run, storage = a_run(tmp_path), Storage()
    leave(run, evaluation=FOUND)
    run.record_preparation(Provenance("baseModels/tiny", "r", "", (DatasetUse(DATASET, "a", "b", 1.0),)), {})
    run.evaluation.mkdir()
    (run.evaluation / "rows.jsonl").write_text("{}\n")
    (event,) = await news(run, storage)
    assert event.fields["result"]["rows_artifact"] == ROWS
    (rows,) = storage.taken
    assert (rows.task, rows.result.kind, [file.path for file in rows.files]) == (f"tasks/{TASK}", "EVALUATION", ["rows.jsonl"])
    # The weights are stored under the run's own name; this must not be taken for them.
    assert rows.request_id != str(run.request.name)
    assert [use.dataset for use in describe(rows).datasets] == [DATASET]
    # A repeat is the same upload.
    await news(run, storage)
    assert storage.taken[1] == rows


@pytest.mark.parametrize("has_left", [True, False], ids=["measured", "not measured"])
async def test_nothing_is_told_that_is_not_wanted_or_not_known(tmp_path: Path, has_left: bool) -> None:
    run = a_run(tmp_path, skips=has_left)
    leave(run, **({"evaluation": FOUND} if has_left else {}))
    assert await news(run) == []


async def test_a_run_without_a_result_tells_nothing(tmp_path: Path) -> None:
    assert await news(a_run(tmp_path)) == []


def test_what_is_not_wanted_outlives_a_restart(tmp_path: Path) -> None:
    request = a_run(tmp_path, skips=True).request
    assert conversion.request_from_document(request.document) == request
