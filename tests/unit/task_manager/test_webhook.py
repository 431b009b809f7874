"""What a webhook says, who may be told, and what is sent over a real connection."""

import contextlib
import datetime
import http.server
import json
import socket
import threading
import uuid
from collections.abc import Iterator

import pytest

from services.common.config import ConfigError, Secret
from services.task_manager.domain import webhook
from services.task_manager.domain.webhook import Endpoint, WebhookEvent
from services.task_manager.settings import TaskManagerSettings
from services.task_manager.webhook_http import DeliveryError, post

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = webhook.parse_secret(SECRET)
NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)


def an_event(kind: str = "task.succeeded", tries: int = 1) -> WebhookEvent:
    return WebhookEvent(uuid.UUID(int=1), kind, uuid.UUID(int=2), 3, NOW, tries)


def test_the_signature_is_that_of_the_specification() -> None:
    signature = webhook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}', KEY)

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_body_names_the_task_and_nothing_of_it() -> None:
    said = json.loads(webhook.body(an_event()))

    assert said == {
        "object": "event",
        "id": f"evt_{uuid.UUID(int=1)}",
        "type": "task.succeeded",
        "created_at": int(NOW.timestamp()),
        "data": {"object": "task", "name": f"tasks/{uuid.UUID(int=2)}", "attempt": 3},
    }


def test_a_repeat_has_the_same_id_and_another_try_and_time() -> None:
    first, second = (webhook.headers(an_event(tries=tries), b"{}", KEY, NOW + datetime.timedelta(tries)) for tries in (1, 2))

    assert first["webhook-id"] == second["webhook-id"]
    assert (first["tunesmith-delivery-try"], second["tunesmith-delivery-try"]) == ("1", "2")
    assert first["webhook-timestamp"] != second["webhook-timestamp"]
    assert first["webhook-signature"] != second["webhook-signature"]


def test_rests_grow_and_end() -> None:
    rests = [webhook.rest_before_next(tries) for tries in range(1, 8)]

    assert rests[-1] is None
    known = [rest for rest in rests if rest]
    assert len(known) == 6
    assert known == sorted(known)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.1.2.3"),
        *("64:ff9b::7f00:1", "2002:7f00:1::", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
    ],
)
def test_addresses_near_us_are_not_public(address: str) -> None:
    assert not webhook.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_of_the_internet_are(address: str) -> None:
    assert webhook.is_public(address)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("example.org/hooks", "expected a URL"),
        ("ftp://example.com", "expected a URL"),
        ("http://example.com", "expected https"),
        ("https://user:word@example.com", "without user"),
        ("https://example.com/#here", "without user, password and fragment"),
        ("https://example.com/a b", "without spaces"),
        ("https://exämple.com/", "printable ASCII"),
        ("https:///nowhere", "expected a URL"),
        ("https://example.com:99999/", "range"),
    ],
)
def test_bad_urls_are_refused_without_being_repeated(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        webhook.parse_endpoint(url, SECRET, allow_http=False)
    assert url not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", SECRET.removeprefix("whsec_")])
def test_bad_secrets_are_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="expected whsec_"):
        webhook.parse_secret(secret)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.com", ("https", "example.com", 443, "/")),
        ("https://example.com:8443/a/b?c=d", ("https", "example.com", 8443, "/a/b?c=d")),
        ("http://[::1]:80/x", ("http", "::1", 80, "/x")),
    ],
)
def test_urls_are_taken_apart(url: str, parts: tuple[str, str, int, str]) -> None:
    assert webhook.parse_endpoint(url, SECRET, allow_http=True) == Endpoint(*parts, KEY)


def settings(**changes: object) -> TaskManagerSettings:
    given = {"postgres_dsn": Secret("postgresql://u@h/d"), "storage_address": "s:1", "trainer_addresses": ("t:1",)}
    return TaskManagerSettings(listen="127.0.0.1:1", **given, **changes)  # type: ignore[arg-type]


def test_settings_are_off_by_default_and_checked_when_read() -> None:
    assert settings().webhook_endpoint() is None
    assert settings(webhook_url=Secret("https://a.example/x"), webhook_secret=Secret(SECRET)).webhook_endpoint()
    with pytest.raises(ConfigError, match="expected whsec_"):
        settings(webhook_url=Secret("https://a.example/x"))
    with pytest.raises(ConfigError, match=r"task\.exploded is none of"):
        settings(webhook_kinds=("task.exploded",))


class Receiver:
    """A real HTTP server; `answers` are statuses with a header `location`, the last of them for ever."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = [(200, "")]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.port = self.server.server_port

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, content))
                status, location = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                self.send_response(status)
                if location:
                    self.send_header("location", location)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that answers while the block runs."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def at(receiver: Receiver, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint("http", host, receiver.port, "/hooks?a=b", KEY)


def test_what_is_sent_can_be_verified(receiver: Receiver) -> None:
    content = webhook.body(an_event())

    status = post(at(receiver), content, webhook.headers(an_event(), content, KEY, NOW), allow_private=True, timeout=5)

    ((path, headers, received),) = receiver.requests
    assert (status, path, received) == (200, "/hooks?a=b", content)
    assert headers["content-type"] == "application/json"
    timestamp = int(headers["webhook-timestamp"])
    assert headers["webhook-signature"] == webhook.sign(headers["webhook-id"], timestamp, received, KEY)


def test_redirects_are_answers_and_not_followed(receiver: Receiver) -> None:
    with receiving() as elsewhere:
        receiver.answers = [(307, f"http://127.0.0.1:{elsewhere.port}/")]
        assert post(at(receiver), b"{}", {}, allow_private=True, timeout=5) == 307
        assert elsewhere.requests == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433"])
def test_this_machine_is_not_asked_under_any_name(receiver: Receiver, host: str) -> None:
    with pytest.raises(DeliveryError, match=r"not a public address|gaierror"):
        post(at(receiver, host), b"{}", {}, allow_private=False, timeout=5)
    assert receiver.requests == []


def test_a_name_is_resolved_once_and_one_bad_address_is_enough(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        addresses = ["8.8.8.8", "127.0.0.1"]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with pytest.raises(DeliveryError, match=r"127\.0\.0\.1 is not a public address"):
        post(at(receiver, "rebinding.example"), b"{}", {}, allow_private=False, timeout=5)
    assert (asked, receiver.requests) == (["rebinding.example"], [])


def test_nobody_there_is_a_failure_with_a_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(DeliveryError, match="ConnectionRefusedError"):
        post(Endpoint("http", "127.0.0.1", port, "/", KEY), b"{}", {}, allow_private=True, timeout=5)


def test_https_is_verified(receiver: Receiver) -> None:
    endpoint = Endpoint("https", "127.0.0.1", receiver.port, "/", KEY)
    with pytest.raises(DeliveryError, match="SSL"):
        post(endpoint, b"{}", {}, allow_private=True, timeout=5)
