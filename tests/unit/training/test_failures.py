"""Exceptions to reasons of the catalogue."""

import pytest

from services.common.errors import ServiceError
from services.trainer.training.failures import as_failure


def test_an_error_with_a_reason_stays_what_it_is():
    error = ServiceError("DATASET_UNUSABLE", "row 3")
    assert as_failure(error) is error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error):
    assert as_failure(error).reason == "OUT_OF_MEMORY"


def test_anything_else_is_the_platforms_and_says_what_it_was():
    failure = as_failure(KeyError("lora_A"))
    assert (failure.reason, failure.error_class.value) == ("TRAINING_FAILED", "platform")
    assert failure.message == "KeyError: 'lora_A'"
