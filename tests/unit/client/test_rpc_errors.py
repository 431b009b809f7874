"""What a caller can branch on, for every status a call can end with and every kind of detail it can carry."""

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from tunesmith import errors
from tunesmith.rpc_errors import translate

FAILURES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
OWN_MESSAGES = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "UNIMPLEMENTED")
INFO = error_details_pb2.ErrorInfo(reason="R", metadata={"class": "user", "hint": "mend it"})


class Ended(grpc.RpcError):
    """A call that ended with a code; `trailer` are the packed details."""

    def __init__(self, code: grpc.StatusCode | None, details: str | None = "", trailer: bytes | None = None):
        self._code, self._details, self._trailer = code, details, trailer

    def code(self):
        return self._code

    def details(self):
        return self._details

    def trailing_metadata(self):
        return () if self._trailer is None else (("grpc-status-details-bin", self._trailer),)


def ended(code: grpc.StatusCode, message: str, *details) -> Ended:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    status = status_pb2.Status(code=code.value[0], message=message, details=packed)
    return Ended(code, message, status.SerializeToString())


def bad_fields(*pairs) -> error_details_pb2.BadRequest:
    violations = [error_details_pb2.BadRequest.FieldViolation(field=field, description=text) for field, text in pairs]
    return error_details_pb2.BadRequest(field_violations=violations)


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_whatever_the_status_the_caller_gets_one_tree_with_the_code_kept(code):
    error = translate(Ended(code, "said"), "storage", "here:1")
    assert isinstance(error, errors.TunesmithError)
    assert type(error) is errors.BY_GRPC_CODE.get(code.name, errors.TunesmithError)
    assert error.grpc_code == code.name


@pytest.mark.parametrize("code", FAILURES, ids=lambda code: code.name)
def test_a_service_that_answered_itself_is_quoted_word_for_word(code):
    error = translate(ended(code, "what happened", INFO), "storage", "here:1")
    assert (error.message, error.reason, error.hint, error.error_class) == ("what happened", "R", "mend it", "user")


@pytest.mark.parametrize("code", [code for code in FAILURES if code.name not in OWN_MESSAGES], ids=lambda code: code.name)
def test_without_details_the_reason_is_the_status_and_the_message_names_service_and_address(code):
    error = translate(Ended(code, "boom"), "inference", "there:2")
    assert error.reason == code.name
    assert error.message == "inference at there:2: boom"


@pytest.mark.parametrize("details", ["", None])
def test_a_status_without_any_text_is_named(details):
    error = translate(Ended(grpc.StatusCode.ABORTED, details), "storage", "here:1")
    assert error.message == "storage at here:1: ABORTED"


def test_an_error_without_a_code_is_unknown():
    error = translate(Ended(None, "strange"), "storage", "here:1")
    assert (type(error), error.reason, error.grpc_code) == (errors.TunesmithError, "UNKNOWN", "UNKNOWN")


@pytest.mark.parametrize("service", ["task_manager", "storage", "inference"])
def test_an_unreachable_service_is_transient_and_its_own_setting_is_named(service):
    error = translate(Ended(grpc.StatusCode.UNAVAILABLE, "connection refused"), service, "here:1")
    assert error.error_class == "transient"
    assert f"TUNESMITH_{service.upper()}_ADDRESS" in error.hint


def test_a_call_the_service_does_not_know_blames_versions_or_the_address():
    error = translate(Ended(grpc.StatusCode.UNIMPLEMENTED, "Method not found!"), "storage", "here:1")
    assert "different versions" in error.hint
    assert "Method not found" not in error.message


def test_a_service_that_is_shutting_down_says_so_itself():
    info = error_details_pb2.ErrorInfo(reason="SHUTTING_DOWN", metadata={"class": "transient"})
    error = translate(ended(grpc.StatusCode.UNAVAILABLE, "the server shuts down", info), "storage", "here:1")
    assert isinstance(error, errors.Unreachable)
    assert (error.reason, error.message, error.hint) == ("SHUTTING_DOWN", "the server shuts down", "")


def test_violations_keep_their_order_over_several_details():
    error = translate(
        ended(grpc.StatusCode.INVALID_ARGUMENT, "m", bad_fields(("b", "1"), ("a", "2")), INFO, bad_fields(("c", "3"))), "s", "a"
    )
    assert [(v.field, v.description, v.reason) for v in error.violations] == [("b", "1", ""), ("a", "2", ""), ("c", "3", "")]


def test_violations_without_a_reason_detail_are_not_an_answer_of_ours():
    error = translate(ended(grpc.StatusCode.INVALID_ARGUMENT, "m", bad_fields(("b", "1"))), "storage", "here:1")
    assert (error.reason, error.violations) == ("INVALID_ARGUMENT", ())


def test_details_of_other_kinds_are_passed_over():
    retry = error_details_pb2.RetryInfo()
    error = translate(ended(grpc.StatusCode.NOT_FOUND, "m", retry, INFO, error_details_pb2.DebugInfo(detail="x")), "s", "a")
    assert (error.reason, error.violations) == ("R", ())


def test_without_a_hint_the_text_ends_with_the_fields():
    info = error_details_pb2.ErrorInfo(reason="R")
    error = translate(ended(grpc.StatusCode.INVALID_ARGUMENT, "m", info, bad_fields(("f", "wrong"))), "s", "a")
    assert str(error) == "R: m\n  - f: wrong"


@pytest.mark.parametrize("kind", sorted(set(errors.BY_GRPC_CODE.values()), key=lambda kind: kind.__name__))
def test_every_class_is_caught_as_the_one_kind(kind):
    with pytest.raises(errors.TunesmithError, match="R: m"):
        raise kind("m", reason="R")


def test_an_error_of_the_sdk_itself_has_no_code_no_class_and_no_fields():
    error = errors.TunesmithError("m")
    assert (error.reason, error.hint, error.error_class, error.violations, error.grpc_code) == ("UNKNOWN", "", "", (), "")
