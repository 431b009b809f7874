"""Writes carry the conditions that the server was found to keep, and no others."""

import io
from collections.abc import Collection

import pytest
from unit.storage import s3_server
from unit.storage.s3_server import LyingServer, lying_server

from services.common.errors import ServiceError
from services.storage import endpoint_probe
from services.storage.object_store import MinioObjectStore
from services.storage.s3_client import s3_client, writing_only_new


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """This server takes parts of any size, and 5 MiB are slow in it."""
    monkeypatch.setattr(endpoint_probe, "_PART", b"part")


@pytest.fixture
def conditions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """(method and what follows the key, If-None-Match) of every request that was answered."""
    seen: list[tuple[str, str | None]] = []
    answer = s3_server.Handler.answer

    def noting(handler: s3_server.Handler, status: int, body: bytes, **headers: str) -> None:
        _, query = handler.target()
        seen.append((f"{handler.command} {','.join(query)}".strip(), handler.headers.get("If-None-Match")))
        answer(handler, status, body, **headers)

    monkeypatch.setattr(s3_server.Handler, "answer", noting)
    return seen


async def store_of(server: LyingServer) -> MinioObjectStore:
    store = MinioObjectStore(server.endpoint, access_key="a", secret_key="s", bucket="bucket")
    await store.probe()
    return store


async def write_all(store: MinioObjectStore) -> None:
    """A whole object, and one of parts."""
    await store.put("blobs/whole", io.BytesIO(b"x"), 1)
    upload = await store.begin_parts("blobs/joined")
    await store.complete_parts("blobs/joined", upload, [await store.put_part("blobs/joined", upload, 1, b"x")])


@pytest.mark.parametrize(
    ("lie", "kept"),
    [("", {"PUT", "POST uploadId"}), ("any writer", {"POST uploadId"}), ("any join", {"PUT"})],
    ids=["honest", "any writer", "any join"],
)
async def test_only_what_makes_an_object_has_a_condition(
    lie: str, kept: Collection[str], conditions: list[tuple[str, str | None]]
) -> None:
    with lying_server(lie) as server:
        store = await store_of(server)
        conditions.clear()
        await write_all(store)
    assert [what for what, _ in conditions] == ["PUT", "POST uploads", "PUT partNumber,uploadId", "POST uploadId"]
    assert {what for what, condition in conditions if condition == "*"} == kept
    assert all(condition in (None, "*") for _, condition in conditions)


async def test_a_store_that_was_not_asked_is_sent_no_conditions(conditions: list[tuple[str, str | None]]) -> None:
    with lying_server() as server:
        await write_all(MinioObjectStore(server.endpoint, access_key="a", secret_key="s", bucket="bucket"))
    assert {condition for _, condition in conditions} == {None}


async def test_a_probe_may_be_repeated() -> None:
    with lying_server() as server:
        store = await store_of(server)
        await store.probe()
        await store.put("blobs/x", io.BytesIO(b"x"), 1)
        with pytest.raises(ServiceError, match="blobs/x"):
            await store.put("blobs/x", io.BytesIO(b"y"), 1)
        assert server.objects == {"blobs/x": b"x"}


@pytest.mark.parametrize("status", [500, 503])
async def test_a_write_whose_answer_is_lost_finds_itself_and_is_content(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with lying_server() as server:
        store = await store_of(server)
        answers = iter([status])
        answer = s3_server.Handler.answer

        def losing(handler: s3_server.Handler, sent: int, body: bytes, **headers: str) -> None:
            answer(handler, next(answers, sent) if handler.command == "PUT" else sent, body, **headers)

        monkeypatch.setattr(s3_server.Handler, "answer", losing)
        await store.put("blobs/x", io.BytesIO(b"mine"), 4)
        assert server.objects == {"blobs/x": b"mine"}
        assert next(answers, None) is None, "nothing was lost"


def test_a_block_ends_its_conditions_whatever_happens() -> None:
    client = s3_client("http://127.0.0.1:1", "a", "s", "us-east-1")
    client.new_only = {"PUT"}
    with pytest.raises(ValueError, match="inside"), writing_only_new(client, ()):
        assert client.new_only == ()
        raise ValueError("inside")
    assert client.new_only == {"PUT"}
