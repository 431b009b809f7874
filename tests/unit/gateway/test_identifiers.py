"""Ids go both ways without a table."""

import uuid

import pytest

from services.common.errors import NotFound
from services.gateway import identifiers as ids

TASK = "tasks/0c3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11"
HEX = "0c3f9b527d0f4a3c9d0c2f1f0a4b7f11"


def test_every_kind_of_id_comes_back_as_the_resource_it_was_made_of() -> None:
    for _ in range(20):
        identifier = uuid.uuid4()
        assert ids.dataset_name(ids.file_id(f"datasets/{identifier}")) == f"datasets/{identifier}"
        assert ids.task_name(ids.job_id(f"tasks/{identifier}")) == f"tasks/{identifier}"
        assert ids.results_task(ids.results_id(f"tasks/{identifier}")) == f"tasks/{identifier}"
        assert ids.event_sequence(ids.event_id(f"tasks/{identifier}", 7), f"tasks/{identifier}") == 7
        parts = ("baseModels/tiny", "org", "Any Suffix: 1/2", f"tasks/{identifier}")
        for tuned in (ids.tuned_model_id(*parts), ids.long_tuned_model_id(*parts)):
            for step in (None, 20):
                name = ids.tuned_name(tuned if step is None else ids.checkpoint_model_id(tuned, step))
                assert identifier.hex.startswith(name.digits)
                assert (name.base_model, name.result, name.step) == ("tiny", tuned, step)
        assert ids.tuned_name(ids.long_tuned_model_id(*parts)).task == f"tasks/{identifier}"
        assert ids.tuned_name(ids.tuned_model_id(*parts)).task is None


def test_ids_look_like_openais() -> None:
    assert ids.file_id(TASK.replace("tasks", "datasets")) == f"file-{HEX}"
    assert ids.job_id(TASK) == f"ftjob-{HEX}"
    assert ids.checkpoint_id(TASK, 20) == f"ftckpt_{HEX}_20"
    assert ids.tuned_model_id("baseModels/tiny-1.0", "acme", "My Model", TASK) == f"ft:tiny-1.0:acme:my-model:{HEX[:8]}"
    assert ids.tuned_model_id("baseModels/tiny", "acme", "", TASK) == f"ft:tiny:acme::{HEX[:8]}"
    assert ids.long_tuned_model_id("baseModels/tiny", "acme", "x", TASK) == f"ft:tiny:acme:x:{HEX}"


def test_a_checkpoint_is_named_as_inference_names_it() -> None:
    assert ids.TunedModel(TASK, "tiny").model == TASK
    assert ids.TunedModel(TASK, "tiny", 20).model == f"{TASK}@step-20"


@pytest.mark.parametrize(
    "given", ["", "x", "file-", f"file-{HEX}0", f"file-{HEX.upper()}", f"ftjob-{HEX}", f"file-{HEX}/../x", f"file-{HEX}\n"]
)
def test_what_is_no_file_id_names_nothing(given: str) -> None:
    with pytest.raises(NotFound):
        ids.dataset_name(given)


@pytest.mark.parametrize("given", ["ftevent-1", f"ftevent-{HEX}-0", f"ftevent-{HEX}-x", f"ftevent-{HEX[::-1]}-1"])
def test_an_event_of_another_job_is_none_of_this_one(given: str) -> None:
    assert ids.event_sequence(given, TASK) is None


def test_other_models_are_none_of_ours_and_a_broken_name_is_told() -> None:
    assert ids.tuned_name("tiny") is None
    for broken in ("ft:tiny:acme::short", f"ft:tiny:acme::{HEX[:9]}", f"ft:tiny:acme::{HEX[:8].upper()}", f"ft:tiny::{HEX}"):
        with pytest.raises(NotFound):
            ids.tuned_name(broken)
