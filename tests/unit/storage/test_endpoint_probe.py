"""A server that breaks a promise of S3 is told so at start, and refused when bytes would be lost."""

import pytest
from structlog.testing import capture_logs
from unit.storage.s3_server import LIES, LyingServer, lying_server

from services.common.errors import ServiceError, Unavailable
from services.storage import endpoint_probe
from services.storage.object_store import MinioObjectStore

pytestmark = pytest.mark.usefixtures("small_parts")
BEARABLE = {"any checksum", "any writer", "any join"}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """This server takes parts of any size, and 5 MiB are slow in it."""
    monkeypatch.setattr(endpoint_probe, "_PART", b"part")


async def probe(server: LyingServer) -> None:
    store = MinioObjectStore(server.endpoint, access_key="a", secret_key="s", bucket="bucket")
    await store.probe()


async def test_an_honest_server_passes_and_nothing_is_left_in_it() -> None:
    with lying_server() as server, capture_logs() as logs:
        server.objects["blobs/mine"] = b"x"
        await probe(server)
        assert server.objects == {"blobs/mine": b"x"}
    assert logs == []


@pytest.mark.parametrize("lie", sorted(LIES.keys() - BEARABLE))
async def test_a_server_that_would_lose_bytes_is_refused_by_the_name_of_the_promise(lie: str) -> None:
    with lying_server(lie) as server, pytest.raises(ServiceError) as caught:
        await probe(server)
    assert caught.value.reason == "OBJECT_STORE_UNFIT"
    assert f"{LIES[lie]}: " in caught.value.message
    assert "object-stores.md" in caught.value.hint


@pytest.mark.parametrize("lie", sorted(BEARABLE))
async def test_a_server_without_a_second_net_is_warned_about(lie: str) -> None:
    with lying_server(lie) as server, capture_logs() as logs:
        await probe(server)
    assert [(entry["event"], entry["promise"], entry["fatal"]) for entry in logs] == [("object_store.degraded", LIES[lie], False)]


async def test_an_overloaded_server_is_asked_again_and_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    with lying_server() as server:
        server.overloaded = True
        with pytest.raises(Unavailable):
            await probe(server)
        server.overloaded = False
        await probe(server)
