"""A trainer tells whether it can hold weights in 4 bits, and refuses a run that it could only fail."""

import importlib.machinery
import importlib.util

import pytest
from trainer_values import make_run

from services.common.config import ConfigError, load
from services.common.errors import InvalidArgument
from services.task_manager.domain import four_bit as asked
from services.trainer import conversion, four_bit
from services.trainer.settings import TrainerSettings
from tunesmith.v1 import task_spec_pb2, trainer_service_pb2


@pytest.fixture(params=[True, False], ids=["with kernels", "without kernels"])
def is_possible(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    found, real = importlib.machinery.ModuleSpec("bitsandbytes", None), importlib.util.find_spec
    monkeypatch.setattr(
        four_bit.importlib.util,
        "find_spec",
        lambda name: (found if request.param else None) if name == "bitsandbytes" else real(name),
    )
    return bool(request.param)


def run(tuning: task_spec_pb2.FineTuning.Tuning.ValueType) -> trainer_service_pb2.Run:
    asking = make_run()
    asking.spec.fine_tuning.tuning = tuning
    return asking


def test_it_tells_what_task_managers_ask_for(is_possible: bool) -> None:
    assert four_bit.labels() == (asked.LABELS if is_possible else {})


def test_a_run_it_could_only_fail_is_refused(is_possible: bool) -> None:
    assert conversion.request_from_proto(run(task_spec_pb2.FineTuning.LORA), 0.0).ask
    if is_possible:
        assert conversion.request_from_proto(run(task_spec_pb2.FineTuning.QLORA), 0.0).ask.tuning == "qlora"
        return
    with pytest.raises(InvalidArgument) as caught:
        conversion.request_from_proto(run(task_spec_pb2.FineTuning.QLORA), 0.0)
    assert [each.field for each in caught.value.violations] == ["run.spec.fine_tuning.tuning"]
    assert "bitsandbytes" in caught.value.violations[0].description


def test_nobody_else_may_claim_it() -> None:
    given = {"DATA_DIR": "d", "CACHE_DIR": "c", "STORAGE_ADDRESS": "127.0.0.1:1", "LISTEN": "127.0.0.1:2"}
    told = {f"TUNESMITH_TRAINER_{name}": value for name, value in given.items()}
    assert load(TrainerSettings, "TUNESMITH_TRAINER_", told | {"TUNESMITH_TRAINER_LABELS": "zone=a"}).label_map() == {"zone": "a"}
    with pytest.raises(ConfigError, match="four-bit"):
        load(TrainerSettings, "TUNESMITH_TRAINER_", told | {"TUNESMITH_TRAINER_LABELS": "four-bit=yes"})
