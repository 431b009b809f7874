"""Any method of the contract by its name, found in the generated descriptors; used by `tunesmith api`."""

import dataclasses
import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from tunesmith import v1
from tunesmith.connection import CALL_SECONDS, CHAT_SECONDS, PLAN_SECONDS, UPLOAD_SECONDS, Connection
from tunesmith.errors import InvalidArgument, NotFound

_SERVED_BY = {"TaskManagerService": "task_manager", "TrainerService": "trainer", "InferenceService": "inference"}
_SLOW = {"PlanTask": PLAN_SECONDS, "CreateTask": PLAN_SECONDS, "Chat": CHAT_SECONDS, "LoadModel": CHAT_SECONDS}


@dataclasses.dataclass(frozen=True, slots=True)
class AnyRpc:
    """A method of the contract."""

    method: MethodDescriptor

    @property
    def name(self) -> str:
        """`Service.Method`."""
        return f"{self._service.name}.{self.method.name}"

    @property
    def served_by(self) -> str:
        """The program that has it: `task_manager`, `storage`, `inference` or `trainer`."""
        return _SERVED_BY.get(self._service.name, "storage")

    @property
    def takes_stream(self) -> bool:
        """Whether it takes several requests."""
        return self.method.client_streaming

    @property
    def gives_stream(self) -> bool:
        """Whether it gives several answers."""
        return self.method.server_streaming

    def request(self, document: Any) -> Message:
        """A request from parsed JSON, names as in the proto or in camel case.

        Raises:
            InvalidArgument: INVALID_FIELD, a name or a value that the message does not have.
        """
        message = message_factory.GetMessageClass(self.method.input_type)()
        if not isinstance(document, dict):
            raise self._unfit("a request is a JSON object")
        try:
            return json_format.ParseDict(document, message)
        except json_format.ParseError as error:
            raise self._unfit(str(error)) from error

    def _unfit(self, what: str) -> InvalidArgument:
        name = self.method.input_type.name
        hint = f"The fields of {name} are in docs/reference/api.md."
        return InvalidArgument(f"{name}: {what}", reason="INVALID_FIELD", hint=hint, error_class="user")

    def call(self, connection: Connection, requests: Sequence[Message]) -> Iterator[Message]:
        """Every answer; a stream ends when the iterator is closed. Raises TunesmithError."""
        stub = self._callable(connection.channel)
        request = iter(requests) if self.takes_stream else requests[0]
        if self.gives_stream:
            yield from connection.stream(stub, request)
        else:
            seconds = UPLOAD_SECONDS if self.takes_stream else _SLOW.get(self.method.name, CALL_SECONDS)
            yield connection.call(stub, request, seconds)

    @property
    def _service(self) -> ServiceDescriptor:
        return self.method.containing_service

    def _callable(self, channel: grpc.Channel) -> Callable[..., Any]:
        way = f"{'stream' if self.takes_stream else 'unary'}_{'stream' if self.gives_stream else 'unary'}"
        answer = message_factory.GetMessageClass(self.method.output_type)
        caller: Callable[..., Any] = getattr(channel, way)(
            f"/{self._service.full_name}/{self.method.name}",
            request_serializer=message_factory.GetMessageClass(self.method.input_type).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return caller


def find(name: str) -> AnyRpc:
    """`CreateTask`, `TaskManagerService.CreateTask` or `tunesmith.v1.TaskManagerService/CreateTask`, in any case.

    Raises:
        NotFound: METHOD_NOT_FOUND, with the names that come near.
    """
    short = {rpc.method.name.lower(): rpc for rpc in methods()}
    known = short | {rpc.name.lower(): rpc for rpc in methods()}
    wanted = name.removeprefix("/").removeprefix("tunesmith.v1.").replace("/", ".").lower()
    if wanted in known:
        return known[wanted]
    near = difflib.get_close_matches(wanted.rpartition(".")[2], short, n=3, cutoff=0.5)
    names = ", ".join(short[each].name for each in near)
    hint = f"Did you mean {names}?" if names else "`tunesmith api` without a method lists them all."
    raise NotFound(f"{name[:80]!r} is not a method of the contract", reason="METHOD_NOT_FOUND", hint=hint, error_class="user")


@cache
def methods() -> tuple[AnyRpc, ...]:
    """Every method of every service, by name."""
    found = []
    for module in pkgutil.iter_modules(v1.__path__):
        if module.name.endswith("_service_pb2"):
            descriptor = importlib.import_module(f"tunesmith.v1.{module.name}").DESCRIPTOR
            for service in descriptor.services_by_name.values():
                found += [AnyRpc(method) for method in service.methods]
    return tuple(sorted(found, key=lambda rpc: rpc.name))
