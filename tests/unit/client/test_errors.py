"""gRPC statuses become the SDK's errors."""

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from tunesmith import errors
from tunesmith.rpc_errors import translate


class FakeRpcError(grpc.RpcError):
    """What a failed call looks like."""

    def __init__(self, code: grpc.StatusCode, details: str = "", status: status_pb2.Status | None = None):
        self._code, self._details, self._status = code, details, status

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        if self._status is None:
            return ()
        return (("grpc-status-details-bin", self._status.SerializeToString()),)


def with_details(code: grpc.StatusCode, message: str, *details) -> FakeRpcError:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    return FakeRpcError(code, message, status_pb2.Status(code=code.value[0], message=message, details=packed))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NOT_FOUND", errors.NotFound),
        ("INVALID_ARGUMENT", errors.InvalidArgument),
        ("ALREADY_EXISTS", errors.AlreadyExists),
        ("FAILED_PRECONDITION", errors.FailedPrecondition),
        ("OUT_OF_RANGE", errors.OutOfRange),
        ("PERMISSION_DENIED", errors.PermissionDenied),
        ("UNAUTHENTICATED", errors.PermissionDenied),
        ("RESOURCE_EXHAUSTED", errors.ResourceExhausted),
        ("DATA_LOSS", errors.DataLoss),
        ("DEADLINE_EXCEEDED", errors.DeadlineExceeded),
        ("UNAVAILABLE", errors.Unreachable),
        ("INTERNAL", errors.TunesmithError),
    ],
)
def test_a_status_has_its_class(code, kind):
    info = error_details_pb2.ErrorInfo(reason="R", metadata={"class": "user", "hint": "do it"})
    error = translate(with_details(grpc.StatusCode[code], "what happened", info), "storage", "here:1")
    assert type(error) is kind
    assert (error.reason, error.message, error.hint, error.error_class, error.grpc_code) == (
        "R",
        "what happened",
        "do it",
        "user",
        code,
    )


def test_field_violations_are_kept():
    info = error_details_pb2.ErrorInfo(reason="TASK_INVALID")
    fields = [error_details_pb2.BadRequest.FieldViolation(field="task.spec", description="is required", reason="REQUIRED")]
    bad = error_details_pb2.BadRequest(field_violations=fields)
    error = translate(with_details(grpc.StatusCode.INVALID_ARGUMENT, "1 field", info, bad), "task_manager", "here:1")
    assert error.violations == (errors.Violation("task.spec", "is required", "REQUIRED"),)


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (grpc.StatusCode.UNAVAILABLE, "UNREACHABLE", "storage does not answer at here:1"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "no answer in time from storage"),
        (grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED", "does not know this call"),
        (grpc.StatusCode.INTERNAL, "INTERNAL", "boom"),
    ],
)
def test_a_status_without_details_still_says_who_and_what(code, reason, said):
    error = translate(FakeRpcError(code, "boom"), "storage", "here:1")
    assert error.reason == reason
    assert said in error.message


def test_contradicting_details_are_ignored():
    other = status_pb2.Status(code=5, message="something else")
    error = translate(FakeRpcError(grpc.StatusCode.INTERNAL, "boom", other), "storage", "here:1")
    assert error.reason == "INTERNAL"


def test_as_text_an_error_shows_reason_fields_and_hint():
    error = errors.InvalidArgument("bad", reason="R", hint="mend", violations=(errors.Violation("f", "wrong"),))
    assert str(error).splitlines() == ["R: bad", "  - f: wrong", "  hint: mend"]
