"""`registry lineage`: from the data to a version and on to its child tasks, also where records are gone."""

import json

import pytest
from typer.testing import CliRunner

from tunesmith import Client
from tunesmith.cli.app import app
from tunesmith.v1.artifact_pb2 import Artifact, DatasetUse
from tunesmith.v1.export_pb2 import Export
from tunesmith.v1.registered_model_pb2 import ModelVersion
from tunesmith.v1.task_pb2 import Task, TaskOrigin
from tunesmith.v1.task_spec_pb2 import FineTuning, TaskSpec, WeightedDataset

VERSION = "models/mail/versions/1"
FIRST, SECOND, MERGING, CHILD = (f"tasks/{digit * 8}-1111-4111-8111-{digit * 12}" for digit in "1234")
DATA, MORE = "datasets/aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa", "datasets/bbbbbbbb-1111-4111-8111-bbbbbbbbbbbb"
CHECKPOINT, ADAPTER = "artifacts/11111111-aaaa-4111-8111-111111111111", "artifacts/22222222-aaaa-4111-8111-222222222222"


@pytest.fixture
def run(platform):
    return lambda *arguments: CliRunner().invoke(app, ["registry", "lineage", *map(str, arguments)])


@pytest.fixture
def chain(platform):
    """Two fine-tunings, the second from a checkpoint of the first, merged, exported, and the start of a third."""
    merged = platform.artifacts.add({"model.safetensors": b"1"}, kind=Artifact.MERGED)
    merged.manifest.task, merged.manifest.step, merged.manifest.base_model = MERGING, 40, "baseModels/tiny"
    merged.manifest.datasets.append(DatasetUse(dataset=MORE, sha256="ab" * 32, weight=1))
    platform.artifacts.exported[VERSION] = ModelVersion(
        name=VERSION, version=1, format=ModelVersion.MERGED, artifact=merged.name, manifest=merged.manifest
    )
    tuning = TaskSpec(fine_tuning=FineTuning(dataset=DATA))
    mixed = TaskSpec(fine_tuning=FineTuning(mixture=[WeightedDataset(dataset=MORE), WeightedDataset(dataset=DATA)]))
    platform.tasks.stored += [
        Task(name=FIRST, display_name="first", state=Task.SUCCEEDED, spec=tuning),
        Task(
            name=SECOND,
            display_name="second",
            state=Task.SUCCEEDED,
            spec=mixed,
            origin=TaskOrigin(artifact=CHECKPOINT, task=FIRST, step=20),
        ),
        Task(
            name=MERGING,
            display_name="merged of second",
            state=Task.SUCCEEDED,
            spec=TaskSpec(export=Export(artifact=ADAPTER)),
            origin=TaskOrigin(artifact=ADAPTER, task=SECOND, step=40),
        ),
        Task(name=CHILD, display_name="third", spec=tuning, origin=TaskOrigin(artifact=VERSION, task=MERGING, step=40)),
    ]
    return merged


def test_the_chain_goes_from_the_version_to_its_first_data_and_to_its_children(run, chain):
    result = run("mail@1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{VERSION}  merged, baseModels/tiny",
        f"  from {chain.name}, step 40",
        f"    by {MERGING}  merged of second (SUCCEEDED)",
        f"      from {ADAPTER}, step 40",
        f"      by {SECOND}  second (SUCCEEDED)",
        f"        on {MORE}",
        f"        on {DATA}",
        f"        from {CHECKPOINT}, step 20",
        f"        by {FIRST}  first (SUCCEEDED)",
        f"          on {DATA}",
        f"started from it: {CHILD}  third",
    ]


def test_the_data_of_what_was_exported_is_told_by_its_checksum(run, platform, chain):
    platform.artifacts.exported[VERSION].manifest.task = SECOND
    assert f"      on {MORE}  SHA-256 abababababab" in run("mail").stdout.splitlines()


def test_a_record_that_was_deleted_ends_the_chain_and_says_so(run, platform, chain):
    platform.tasks.stored = [task for task in platform.tasks.stored if task.name != SECOND]
    lines = run("mail").stdout.splitlines()
    assert f"      by {SECOND}, whose record was deleted" in lines
    assert not any(FIRST in line for line in lines)


def test_what_was_imported_has_no_training_to_tell_of(run, platform):
    platform.artifacts.exported[VERSION] = ModelVersion(name=VERSION, version=1, format=ModelVersion.ADAPTER)
    assert run("mail").stdout.splitlines() == [
        f"{VERSION}  adapter, no base model",
        "  imported: nothing is known of its training",
    ]


def test_programs_get_the_messages_of_the_contract(run, chain):
    told = json.loads(run("mail", "--json").stdout)
    assert told["version"]["name"] == VERSION
    assert [step["name"] for step in told["steps"]] == [MERGING, SECOND, FIRST]
    assert told["steps"][1]["task"]["origin"]["task"] == FIRST
    assert [child["name"] for child in told["children"]] == [CHILD]


def test_a_chain_that_closes_is_not_followed_for_ever(platform, chain):
    platform.tasks.stored[0].origin.task = SECOND
    with Client() as client:
        assert len(client.lineage("mail").steps) == 100
