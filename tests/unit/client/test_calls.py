"""What every call of the SDK carries, how connections are opened and closed, and what is never sent."""

import uuid

import grpc
import pytest

from tunesmith import Client, connection
from tunesmith.connection import (
    CALL_SECONDS,
    UPLOAD_SECONDS,
    Connection,
    Connections,
    open_channel,
    resolve_address,
)
from tunesmith.errors import InvalidArgument, TunesmithError, Unreachable


class Refused(grpc.RpcError):
    def code(self):
        return grpc.StatusCode.UNAVAILABLE

    def details(self):
        return "refused"

    def trailing_metadata(self):
        return ()


class Stream:
    """A server-streaming call: some answers, then perhaps a failure; remembers whether it was cancelled."""

    def __init__(self, *answers):
        self.answers = answers
        self.cancelled = 0

    def __iter__(self):
        for answer in self.answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    def cancel(self):
        self.cancelled += 1


class Method:
    """A method of a stub that remembers how it was called."""

    def __init__(self, answer):
        self.answer = answer
        self.calls = []

    def __call__(self, request, *, timeout, metadata):
        self.calls.append((request, timeout, dict(metadata)))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def storage(monkeypatch):
    monkeypatch.delenv("TUNESMITH_API_KEY", raising=False)
    monkeypatch.delenv("TUNESMITH_TLS_CA_FILE", raising=False)
    opened = Connection("storage", "127.0.0.1:1")
    yield opened
    opened.channel.close()


@pytest.mark.parametrize(("given", "sent"), [({}, CALL_SECONDS), ({"timeout": UPLOAD_SECONDS}, UPLOAD_SECONDS)])
def test_every_call_has_a_deadline(storage, given, sent):
    method = Method("answer")
    assert storage.call(method, "request", **given) == "answer"
    assert method.calls[0][:2] == ("request", sent)


def test_every_call_has_a_request_id_of_its_own(storage):
    method = Method("answer")
    for _ in range(3):
        storage.call(method, "request")
    ids = {metadata["x-request-id"] for _, _, metadata in method.calls}
    assert len(ids) == 3
    assert all(str(uuid.UUID(identifier)) == identifier for identifier in ids)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_no_authorization_is_sent(storage, monkeypatch, key):
    if key is not None:
        monkeypatch.setenv("TUNESMITH_API_KEY", key)
    method = Method("answer")
    storage.call(method, "request")
    assert list(method.calls[0][2]) == ["x-request-id"]


def test_a_key_that_is_set_later_is_used_by_the_next_call(storage, monkeypatch):
    method = Method("answer")
    storage.call(method, "request")
    monkeypatch.setenv("TUNESMITH_API_KEY", "k")
    storage.call(method, "request")
    assert [metadata.get("authorization") for _, _, metadata in method.calls] == [None, "Bearer k"]


def test_a_failed_call_is_an_error_of_the_sdk_with_the_grpc_error_as_its_cause(storage):
    refused = Refused()
    with pytest.raises(Unreachable, match=r"storage does not answer at 127\.0\.0\.1:1") as caught:
        storage.call(Method(refused), "request")
    assert caught.value.__cause__ is refused


def test_a_stream_has_no_deadline_unless_it_is_given_one(storage):
    method = Method(Stream("a"))
    assert list(storage.stream(method, "request")) == ["a"]
    assert list(storage.stream(method, "request", 5.0)) == ["a"]
    assert [timeout for _, timeout, _ in method.calls] == [None, 5.0]


def test_a_stream_that_breaks_gives_what_came_and_then_the_error(storage):
    seen = []
    with pytest.raises(Unreachable):
        for answer in storage.stream(Method(Stream("a", "b", Refused())), "request"):
            seen.append(answer)
    assert seen == ["a", "b"]


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_stream_is_cancelled_however_it_ends(storage, taken):
    stream = Stream("a", "b")
    answers = storage.stream(Method(stream), "request")
    next(answers)
    for _ in range(taken):
        next(answers, None)
    answers.close()
    assert stream.cancelled == 1


def test_an_unstarted_stream_makes_no_call(storage):
    method = Method(Stream("a"))
    storage.stream(method, "request").close()
    assert method.calls == []


def test_connections_are_made_once_each_and_anew_after_closing():
    pool = Connections({"storage": "here:1", "inference": None})
    first = pool.connection("storage")
    assert pool.connection("storage") is first
    assert pool.connection("storage").address == "here:1"
    pool.close()
    assert pool.connection("storage") is not first
    pool.close()


def test_an_address_that_is_given_as_none_is_looked_up(monkeypatch):
    monkeypatch.setenv("TUNESMITH_INFERENCE_ADDRESS", "there:2")
    pool = Connections({"inference": None})
    assert pool.connection("inference").address == "there:2"
    pool.close()


def test_nothing_is_connected_before_it_is_needed(monkeypatch):
    opened = []
    monkeypatch.setattr(connection, "open_channel", opened.append)
    Client(storage="here:1", task_manager="here:2", inference="here:3")
    assert opened == []


def test_an_empty_setting_is_no_address(monkeypatch, tmp_path):
    monkeypatch.setenv("TUNESMITH_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TUNESMITH_STORAGE_ADDRESS", "")
    assert resolve_address("storage") == resolve_address("storage", "") == "127.0.0.1:50053"


def test_a_certificate_authority_turns_tls_on(monkeypatch, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"certificate")
    secured = []
    monkeypatch.setattr(connection.grpc, "ssl_channel_credentials", lambda root: ("credentials", root))
    monkeypatch.setattr(connection.grpc, "secure_channel", lambda *arguments, options: secured.append(arguments))
    monkeypatch.setenv("TUNESMITH_TLS_CA_FILE", str(authority))
    open_channel("there:443")
    assert secured == [("there:443", ("credentials", b"certificate"))]


def test_a_service_without_tls_is_unreachable_for_a_client_with_it(platform, monkeypatch, tmp_path):
    authority = tmp_path / "ca.pem"
    authority.write_text("no certificate at all")
    monkeypatch.setenv("TUNESMITH_TLS_CA_FILE", str(authority))
    with Client() as client, pytest.raises(Unreachable):
        client.get_task("1")


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.get_task("datasets/1"),
        lambda client: client.cancel_task(""),
        lambda client: client.delete_task("artifacts/1"),
        lambda client: client.watch_task("artifacts/1"),
        lambda client: client.stream_logs("tasks/"),
        lambda client: client.stream_metrics("/1"),
        lambda client: client.list_metrics("models/1"),
        lambda client: next(client.list_events("datasets/1")),
        lambda client: next(client.list_artifacts(task="datasets/1")),
        lambda client: client.get_base_model("tasks/1"),
        lambda client: client.delete_dataset("tasks/1"),
        lambda client: client.download_artifact("tasks/1", "nowhere"),
    ],
)
def test_a_name_that_cannot_be_right_is_refused_before_any_service_is_asked(ask):
    with Client(task_manager="127.0.0.1:1", storage="127.0.0.1:1") as client, pytest.raises(InvalidArgument) as caught:
        ask(client)
    assert (caught.value.reason, caught.value.grpc_code) == ("NAME_INVALID", "")


def test_the_package_offers_the_client_and_its_error():
    import tunesmith

    assert {name: getattr(tunesmith, name) for name in tunesmith.__all__} == {"Client": Client, "TunesmithError": TunesmithError}
