"""What clients that were made before a message grew make of it."""

from typing import Any

import pytest
from google.protobuf import descriptor_pool, duration_pb2, empty_pb2, json_format, message_factory, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from tunesmith.v1 import inference_service_pb2 as pb2
from tunesmith.v1 import task_error_pb2


def described(file: Any) -> FileDescriptorProto:
    found = FileDescriptorProto()
    file.DESCRIPTOR.CopyToProto(found)
    return found


@pytest.fixture
def before_errors() -> Any:
    """CompareChatResponse as it was when the failure of one model was that of the call."""
    file, pool = described(pb2), descriptor_pool.DescriptorPool()
    (response,) = (each for each in file.message_type if each.name == "CompareChatResponse")
    (reasons,) = (each for each in file.enum_type if each.name == "FinishReason")
    for fields, name in ((response.field, "error"), (reasons.value, "FINISH_REASON_FAILED")):
        (added,) = (each for each in fields if each.name == name)
        fields.remove(added)
    for each in (*map(described, (duration_pb2, empty_pb2, timestamp_pb2, task_error_pb2)), file):
        pool.Add(each)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tunesmith.v1.CompareChatResponse"))


def test_a_compared_model_that_failed_is_an_answer_that_has_ended_for_a_reason_nobody_knows(before_errors: Any) -> None:
    error = pb2.AnswerError(reason="BASE_MODEL_NOT_FOUND", message="gone", hint="Look.")
    sent = pb2.CompareChatResponse(index=1, finish_reason=pb2.FINISH_REASON_FAILED, error=error)
    found = before_errors.FromString(sent.SerializeToString())
    assert (found.index, found.delta, found.HasField("usage")) == (1, "", False)
    assert found.finish_reason not in (0, *(pb2.FINISH_REASON_STOP, pb2.FINISH_REASON_LENGTH, pb2.FINISH_REASON_TOOL_CALLS))
    assert json_format.MessageToDict(found) == {"index": 1, "finishReason": pb2.FINISH_REASON_FAILED}
    # Who passes it on loses nothing.
    assert pb2.CompareChatResponse.FromString(found.SerializeToString()) == sent
