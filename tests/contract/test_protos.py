"""The contract's own rules that buf cannot check."""

import pathlib
import shutil

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor

from tests.contract.fresh_stubs import stale_stubs
from tunesmith.v1 import (
    artifact_service_pb2,
    dataset_service_pb2,
    event_archive_service_pb2,
    inference_service_pb2,
    model_service_pb2,
    task_manager_service_pb2,
    trainer_service_pb2,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICES: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        artifact_service_pb2,
        dataset_service_pb2,
        event_archive_service_pb2,
        inference_service_pb2,
        model_service_pb2,
        task_manager_service_pb2,
        trainer_service_pb2,
    )
]


def all_files() -> list[FileDescriptor]:
    pool = descriptor_pool.Default()
    names = sorted(path.relative_to(ROOT / "protos").as_posix() for path in (ROOT / "protos/tunesmith").rglob("*.proto"))
    for service in SERVICES:
        assert service.name in names
    return [pool.FindFileByName(name) for name in names]


def all_messages(file: FileDescriptor) -> list:
    found = list(file.message_types_by_name.values())
    for message in found:
        found.extend(nested for nested in message.nested_types if not nested.GetOptions().map_entry)
    return found


def test_committed_stubs_are_what_the_protos_generate() -> None:
    assert stale_stubs(ROOT / "tunesmith" / "v1") == []


def test_a_changed_stub_is_noticed(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "v1"
    shutil.copytree(ROOT / "tunesmith" / "v1", copy)
    (copy / "task_pb2.py").write_text("changed")
    (copy / "task_spec_pb2.pyi").unlink()
    (copy / "ghost_pb2.py").touch()
    assert stale_stubs(copy) == ["ghost_pb2.py", "task_pb2.py", "task_spec_pb2.pyi"]


@pytest.mark.parametrize("file", all_files(), ids=lambda file: file.name)
def test_every_file_has_options_for_other_languages(file: FileDescriptor) -> None:
    options = file.GetOptions()
    assert options.go_package.endswith("/tunesmith/v1;tunesmithv1")
    assert options.java_package == "dev.tunesmith.v1"
    assert options.java_multiple_files
    assert options.java_outer_classname.endswith("Proto")
    assert options.csharp_namespace == "Tunesmith.V1"


@pytest.mark.parametrize("file", all_files(), ids=lambda file: file.name)
def test_zero_of_every_enum_is_unspecified(file: FileDescriptor) -> None:
    enums = list(file.enum_types_by_name.values())
    for message in all_messages(file):
        enums.extend(message.enum_types)
    for enum in enums:
        assert enum.values_by_number[0].name.endswith("_UNSPECIFIED"), enum.full_name


@pytest.mark.parametrize("file", all_files(), ids=lambda file: file.name)
def test_names_of_units_follow_the_rules(file: FileDescriptor) -> None:
    timestamp, duration = "google.protobuf.Timestamp", "google.protobuf.Duration"
    for message in all_messages(file):
        for field in message.fields:
            kind = field.message_type.full_name if field.message_type else ""
            if kind == timestamp:
                assert field.name == "time" or field.name.endswith("_time"), field.full_name
            if field.name.endswith("_time"):
                assert kind in (timestamp, duration), field.full_name
            if field.name.endswith(("_bytes", "_count")):
                assert field.type == descriptor_pb2.FieldDescriptorProto.TYPE_INT64 or field.name == "active_run_count"


def test_every_list_request_pages() -> None:
    # Bounded by the machine, by settings, by max_points, by what is kept of a task, or by what there are methods.
    unpaged = {
        *("ListRunsRequest", "ListRunnersRequest", "ListLoadedModelsRequest"),
        *("ListMetricsRequest", "ListCheckpointsRequest", "ListTuningsRequest"),
    }
    for file in SERVICES:
        for name, message in file.message_types_by_name.items():
            if name.startswith("List") and name.endswith("Request") and name not in unpaged:
                assert {"page_size"} <= set(message.fields_by_name), name
                assert {"page_token", "after_sequence"} & set(message.fields_by_name), name


def test_every_stream_of_events_has_cursor_header_heartbeat_and_end() -> None:
    for stream in ("WatchTask", "StreamMetrics", "StreamLogs"):
        method = task_manager_service_pb2.DESCRIPTOR.services_by_name["TaskManagerService"].methods_by_name[stream]
        assert "after_sequence" in method.input_type.fields_by_name
        assert {"header", "heartbeat", "end"} <= set(method.output_type.fields_by_name)
        assert method.server_streaming
