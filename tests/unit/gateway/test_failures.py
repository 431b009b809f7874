"""Every reason of the catalogue has an answer in OpenAI's shape."""

import json

import pytest

from services.common.catalogue import CATALOGUE
from services.common.errors import InvalidArgument, NotFound, ServiceError, Violation
from services.gateway import failures

FAILURES = sorted(reason for reason, entry in CATALOGUE.items() if entry.status != "OK")


@pytest.mark.parametrize("reason", FAILURES)
def test_all_four_keys_are_there_and_the_status_is_an_error(reason: str) -> None:
    answer = failures.response(ServiceError(reason, "it failed"))
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == f"it failed. {CATALOGUE[reason].hint}"
    assert error["type"]
    assert error["code"]
    assert 400 <= answer.status_code < 600


@pytest.mark.parametrize(
    ("reason", "status", "kind", "code"),
    [
        ("INVALID_FIELD", 400, "invalid_request_error", "invalid_field"),
        ("CURSOR_AHEAD", 400, "invalid_request_error", "cursor_ahead"),
        ("UNAUTHENTICATED", 401, "authentication_error", "invalid_api_key"),
        ("TASK_NOT_FOUND", 404, "invalid_request_error", "fine_tune_not_found"),
        ("MODEL_NOT_FOUND", 404, "invalid_request_error", "model_not_found"),
        ("ARTIFACT_EXPIRED", 404, "invalid_request_error", "model_not_found"),
        ("MODEL_NOT_READY", 404, "invalid_request_error", "model_not_found"),
        ("TOOLS_UNSUPPORTED", 400, "invalid_request_error", "tools_unsupported"),
        ("MEDIA_TYPE_UNSUPPORTED", 415, "invalid_request_error", "media_type_unsupported"),
        ("REQUEST_TIMED_OUT", 408, "invalid_request_error", "request_timed_out"),
        ("DISK_FULL", 507, "server_error", "disk_full"),
        ("CHECKSUM_MISMATCH", 500, "server_error", "checksum_mismatch"),
        ("METHOD_NOT_ALLOWED", 405, "invalid_request_error", "method_not_allowed"),
        ("TASK_NOT_RUNNING", 409, "conflict", "task_not_running"),
        ("REQUEST_ID_REUSED", 409, "conflict", "request_id_reused"),
        ("REQUEST_TOO_LARGE", 413, "invalid_request_error", "request_too_large"),
        ("RATE_LIMITED", 429, "rate_limit_error", "rate_limit_exceeded"),
        ("INTERNAL", 500, "server_error", "internal"),
        ("STORAGE_UNAVAILABLE", 503, "server_error", "storage_unavailable"),
        ("DEADLINE_EXCEEDED", 504, "server_error", "deadline_exceeded"),
    ],
)
def test_status_type_and_code(reason: str, status: int, kind: str, code: str) -> None:
    error = ServiceError(reason, "x")
    body = failures.body_of(error)["error"]
    assert (failures.status_of(error), body["type"], body["code"]) == (status, kind, code)


@pytest.mark.parametrize(
    ("reason", "parameter"), [("MODEL_NOT_FOUND", "model"), ("TOOLS_UNSUPPORTED", "tools"), ("INTERNAL", None)]
)
def test_the_parameter_that_is_meant_is_told_where_no_field_is_named(reason: str, parameter: str | None) -> None:
    assert failures.body_of(ServiceError(reason, "x"))["error"]["param"] == parameter


def test_clients_do_not_repeat_what_only_a_changed_state_mends() -> None:
    assert failures.headers_of(ServiceError("TASK_NOT_RUNNING", "x")) == {"x-should-retry": "false"}
    assert failures.headers_of(ServiceError("SWEEP_RUNNING", "x")) == {}
    assert failures.headers_of(NotFound("TASK_NOT_FOUND", "tasks/1")) == {}


def test_limits_say_when_to_come_back() -> None:
    error = ServiceError("RATE_LIMITED", "x", metadata={"retry_after_ms": "1500"})
    assert failures.headers_of(error) == {"retry-after-ms": "1500", "retry-after": "2"}
    assert failures.headers_of(ServiceError("STORAGE_UNAVAILABLE", "x")) == {"retry-after-ms": "1000", "retry-after": "1"}


@pytest.mark.parametrize(
    ("field", "parameter"),
    [
        ("task.spec.fine_tuning.base_model", "model"),
        ("task.spec.fine_tuning.dataset", "training_file"),
        ("task.spec.fine_tuning.hyperparameters.num_train_epochs", "hyperparameters.n_epochs"),
        ("task.spec.fine_tuning.hyperparameters.lora.rank", "tunesmith.hyperparameters.lora.rank"),
        ("task.labels['x']", "metadata"),
        ("messages[0].role", "messages[0].role"),
    ],
)
def test_a_bad_field_has_the_callers_name(field: str, parameter: str) -> None:
    error = failures.body_of(InvalidArgument(Violation(field, "is wrong")))["error"]
    assert (error["param"], error["message"].split(". ")[0]) == (parameter, f"{parameter}: is wrong")


def test_every_bad_field_of_a_message_has_the_callers_name() -> None:
    fields = ("task.spec.fine_tuning.hyperparameters.seed", "task.spec.fine_tuning.dataset")
    error = InvalidArgument(*(Violation(field, "is wrong") for field in fields))
    assert failures.body_of(error)["error"]["message"].startswith("seed: is wrong; training_file: is wrong.")


def test_a_message_of_its_own_stays_as_it_is() -> None:
    error = ServiceError("DATASET_INVALID", "2 rows are bad; first: line 1: x", violations=[Violation("line 1", "x")])
    assert failures.body_of(error)["error"]["message"].startswith("2 rows are bad; first: line 1: x. ")


def test_a_sentence_keeps_its_own_end() -> None:
    message = failures.body_of(ServiceError("INTERNAL", "it failed!", hint="Report it."))["error"]["message"]
    assert message == "it failed! Report it."
