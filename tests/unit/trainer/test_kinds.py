"""A run goes by what it is: the table of kinds, and what a run without hyperparameters means for its supervisor."""

import json
import pathlib

import pytest
from trainer_values import NOW, make_run

from services.common.errors import InvalidArgument
from services.trainer import batch_cut, conversion
from services.trainer.kinds.table import KINDS
from tunesmith.v1 import task_spec_pb2


def test_every_kind_is_a_field_of_the_spec() -> None:
    fields = {field.name for field in task_spec_pb2.TaskSpec.DESCRIPTOR.oneofs[0].fields}
    assert KINDS.keys() <= fields
    assert all(name == kind.field for name, kind in KINDS.items())


def test_only_fine_tuning_runs_what_the_setting_says() -> None:
    assert [kind.field for kind in KINDS.values() if not kind.module] == ["fine_tuning"]


@pytest.mark.parametrize("spec", [task_spec_pb2.TaskSpec()], ids=["none"])
def test_a_run_of_another_kind_is_refused_with_the_known_ones(spec: task_spec_pb2.TaskSpec) -> None:
    run = make_run()
    run.spec.CopyFrom(spec)

    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(run, NOW)

    (violation,) = caught.value.violations
    assert violation.field == "run.spec"
    assert "fine_tuning" in violation.description


def test_a_kind_that_is_not_known_any_more_is_an_unreadable_document() -> None:
    run = make_run()
    document = json.loads(conversion.request_from_proto(run, NOW).document)
    document["spec"] = {"brand_new": {}}
    with pytest.raises(ValueError, match="not the proto JSON of a run"):
        conversion.request_from_document(json.dumps(document))


def test_a_run_without_batches_has_none_to_cut(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"run": "x"}')

    assert batch_cut.cut(config) is None
    assert batch_cut.least(config) == ""
    assert batch_cut.hint(config, "") == "Use a machine with more memory."
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_run_with_batches_says_that_one_row_was_too_much(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"hyperparameters": {"max_seq_length": 64}}')
    assert batch_cut.least(config) == ", with one row in a forward pass"
