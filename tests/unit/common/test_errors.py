"""The error tree: every reason is complete, and survives the way over the wire."""

import pytest
from google.rpc import code_pb2, error_details_pb2

from services.common import rich_status
from services.common.catalogue import CATALOGUE, ErrorClass
from services.common.errors import InvalidArgument, NotFound, ServiceError, Unavailable, Violation


@pytest.mark.parametrize("reason", sorted(CATALOGUE))
def test_every_reason_has_a_real_status_a_class_and_a_hint(reason: str) -> None:
    entry = CATALOGUE[reason]
    assert reason == reason.upper()
    assert entry.status in code_pb2.Code.keys()  # noqa: SIM118  # not a dict
    assert isinstance(entry.error_class, ErrorClass)
    assert entry.hint.strip()


@pytest.mark.parametrize("reason", sorted(reason for reason, entry in CATALOGUE.items() if entry.status == "UNAVAILABLE"))
def test_unavailable_is_always_transient(reason: str) -> None:
    assert CATALOGUE[reason].error_class is ErrorClass.TRANSIENT


def test_a_reason_outside_the_catalogue_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        ServiceError("NOT_IN_THE_CATALOGUE", "message")


def info_of(error: ServiceError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    found = [detail for detail in rich_status.to_status(error).details if detail.Unpack(info)]
    assert len(found) == 1
    return info


def test_the_status_carries_one_error_info_with_class_hint_and_metadata() -> None:
    status = rich_status.to_status(NotFound("TASK_NOT_FOUND", "tasks/1"))
    info = info_of(NotFound("TASK_NOT_FOUND", "tasks/1"))
    assert status.code == code_pb2.NOT_FOUND
    assert status.message == "tasks/1 does not exist"
    assert (info.reason, info.domain) == ("TASK_NOT_FOUND", "tunesmith")
    assert info.metadata == {"resource": "tasks/1", "class": "user", "hint": CATALOGUE["TASK_NOT_FOUND"].hint}


def test_a_hint_of_its_own_beats_that_of_the_catalogue() -> None:
    assert info_of(ServiceError("INTERNAL", "m", hint="do this")).metadata["hint"] == "do this"


def test_every_violation_is_a_field_violation_and_stands_in_the_message() -> None:
    error = InvalidArgument(Violation("a.b", "is negative"), Violation("c", "is empty"))
    bad_request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad_request) for detail in rich_status.to_status(error).details)
    assert [(v.field, v.description) for v in bad_request.field_violations] == [("a.b", "is negative"), ("c", "is empty")]
    assert error.message == "a.b: is negative; c: is empty"


def test_a_thousand_violations_still_fit_into_the_trailers() -> None:
    error = InvalidArgument(*(Violation(f"line {line}", "x" * 100) for line in range(1000)))
    status = rich_status.to_status(error)
    bad_request = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad_request) for detail in status.details)
    assert 10 < len(bad_request.field_violations) < 100
    assert len(status.SerializeToString()) < 6000


def test_unavailable_is_a_service_error_of_class_transient() -> None:
    assert Unavailable("POSTGRES_UNAVAILABLE", "away").error_class is ErrorClass.TRANSIENT


def test_a_long_message_of_any_script_fits_into_the_trailers() -> None:
    error = InvalidArgument(*(Violation(f"task.labels[{'键' * 60}{index}]", "太长" * 40) for index in range(30)))
    status = rich_status.to_status(error)
    assert len(status.message.encode()) <= 600
    assert status.message.endswith("...")
    assert len(status.SerializeToString()) < 5000
