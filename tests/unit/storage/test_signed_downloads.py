"""Downloads straight from the object store, over the fakes."""

from unit.storage.fakes import MemoryObjectStore
from unit.storage.retention_suite import FILES
from unit.storage.service import Service, refused
from unit.storage.signed_download_suite import SignedDownloadSuite, sign


class TestSignedDownloads(SignedDownloadSuite):
    """All rules of the suite."""


async def test_a_store_that_callers_cannot_reach_has_no_urls(service: Service, store: MemoryObjectStore) -> None:
    store.public = False
    artifact = await service.store_artifact(FILES)
    async with refused("PRESIGNED_DOWNLOADS_OFF") as refusal:
        await sign(service, artifact.name)
    assert "DownloadArtifact" in refusal.hint
