"""Runs on several datasets, or with a split: what the training process finds, and what the manifest says of it."""

import collections
import hashlib
import json

import grpc
import pytest
from trainer_face import Face, eventually_async, make_run, texts
from trainer_scripts import GOOD
from trainer_storage import FakeStorage

from tunesmith.v1 import task_pb2, trainer_service_pb2

pytestmark = pytest.mark.integration


def script_row() -> dict:
    """The first row of a dataset tells the fake training process what to do; it is the first one that trains, too."""
    return {"script": GOOD}


def rows(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_mixture_is_composed_and_told(face: Face, storage: FakeStorage) -> None:
    first_rows, second_rows = rows(script_row(), {"n": 1}), rows(*({"n": number} for number in range(10, 20)))
    first, second = storage.add_rows(first_rows), storage.add_rows(second_rows, b"[ ]")

    name = await face.submit("", mixture={first: 2.0, second: 0.5})
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    lines = (face.directory(name) / "data" / "train.jsonl").read_bytes().splitlines()
    assert lines[:4] == [line for line in first_rows.splitlines() for _ in range(2)]
    assert len(lines) == 4 + 5
    assert set(lines[4:]) < set(second_rows.splitlines())
    assert "composed 9 training rows of 2 datasets" in texts(events, rank=-1)
    assert not (face.directory(name) / "data" / "sources").exists()


async def test_the_manifest_names_every_dataset_with_its_weight(face: Face, storage: FakeStorage) -> None:
    contents = [rows(script_row(), {"n": 1}), rows({"n": 2}, {"n": 3})]
    mixture = {storage.add_rows(contents[0], b"a"): 1.0, storage.add_rows(contents[1], b"b"): 1.5}

    name = await face.submit("", mixture=mixture, validation=storage.add_rows(rows({"n": 9}), b"c"))
    _, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    manifest = storage.headers[0].manifest
    assert [(use.dataset, use.weight) for use in manifest.datasets] == list(mixture.items())
    assert [use.sha256 for use in manifest.datasets] == [digest(b"a"), digest(b"b")]
    assert [use.rows_sha256 for use in manifest.datasets] == [digest(content) for content in contents]
    assert manifest.validation_dataset.sha256 == digest(b"c")
    assert not manifest.HasField("validation_split_ratio")
    assert manifest.dataset_sha256 == ""


async def test_a_split_gives_validation_data_that_nothing_trains_on(face: Face, storage: FakeStorage) -> None:
    # The fake training process reads its script from the first row that trains, whichever that is.
    content = rows(*({"script": [{"do": "say", "text": str(number)}, *GOOD]} for number in range(20)))
    dataset = storage.add_rows(content, b"file")

    name = await face.submit(dataset, split=0.2)
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED, (end, texts(events))
    data = face.directory(name) / "data"
    train, held_out = ((data / f"{part}.jsonl").read_bytes().splitlines() for part in ("train", "validation"))
    assert (len(train), len(held_out)) == (16, 4)
    assert collections.Counter(train) + collections.Counter(held_out) == collections.Counter(content.splitlines())
    assert "composed 16 training rows of 1 dataset, 4 held out for validation" in texts(events, rank=-1)
    config = json.loads((face.directory(name) / "config.json").read_text())
    assert config["validation_file"] == str(data / "validation.jsonl")
    manifest = storage.headers[-1].manifest
    assert (manifest.validation_split_ratio, manifest.dataset_sha256) == (0.2, digest(b"file"))
    assert [use.dataset for use in manifest.datasets] == [dataset]
    assert not manifest.HasField("validation_dataset")
    # What was held out is a dataset from now on, so that the result can be asked about it.
    (told,) = [event.rows_held_out.dataset for event in events if event.HasField("rows_held_out")]
    assert storage.datasets[told].splitlines() == held_out


async def test_one_dataset_is_not_composed_and_still_comes_as_rows(face: Face, storage: FakeStorage) -> None:
    content = rows(script_row(), {"n": 1})
    dataset = storage.add_rows(content)

    name = await face.submit(dataset)
    events, end = await face.watch(name)

    assert end.state == task_pb2.Task.SUCCEEDED
    assert (face.directory(name) / "data" / "train.jsonl").read_bytes() == content
    assert not any("composed" in text for text in texts(events, rank=-1))
    (use,) = storage.headers[0].manifest.datasets
    assert (use.dataset, use.weight, use.rows_sha256) == (dataset, 1.0, digest(content))


async def test_data_that_cannot_be_split_fails_the_run_with_the_reason(face: Face, storage: FakeStorage) -> None:
    name = await face.submit(storage.add_rows(rows({"n": 1}, {"n": 1})), split=0.5)

    _, end = await face.watch(name)

    assert (end.state, end.error.reason) == (task_pb2.Task.FAILED, "DATASET_UNUSABLE")
    assert "all rows are equal" in end.error.message


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"split": 0.6}, "run.spec.fine_tuning.validation_split_ratio"),
        ({"split": 0.0}, "run.spec.fine_tuning.validation_split_ratio"),
        (
            {"split": 0.1, "validation": f"datasets/{'1' * 8}-1111-4111-8111-{'1' * 12}"},
            "run.spec.fine_tuning.validation_split_ratio",
        ),
        ({"mixture": {"datasets/x": 1.0}}, "run.spec.fine_tuning.mixture[0].dataset"),
        ({"mixture": {f"datasets/{'1' * 8}-1111-4111-8111-{'1' * 12}": 0.0}}, "run.spec.fine_tuning.mixture[0].weight"),
    ],
)
async def test_inputs_that_cannot_be_used_are_refused(face: Face, storage: FakeStorage, changes: dict, field: str) -> None:
    run = make_run(storage.add_rows(b"{}\n"), **changes)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await face.stub.StartRun(trainer_service_pb2.StartRunRequest(run=run), timeout=60)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in (caught.value.details() or "")


async def test_the_trainer_tells_what_its_machine_can_do(make_face) -> None:
    face = await make_face(SPEED_MODULE="fake_speed")

    async def is_measured() -> bool:
        return (await face.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest(), timeout=60)).flops_per_second > 0

    await eventually_async(is_measured, "the speed is not measured")
    capacity = await face.stub.GetCapacity(trainer_service_pb2.GetCapacityRequest(), timeout=60)

    assert capacity.flops_per_second == 3e9
    assert capacity.total_memory_bytes > 2**28
    assert json.loads((face.root / "data" / "speed.json").read_text())["flops_per_second"] == 3e9
