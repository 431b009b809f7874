"""The embedded S3 keeps every promise."""

import minio
import pytest
from embedded import S3
from structlog.testing import capture_logs

from services.storage.object_store import MinioObjectStore

pytestmark = pytest.mark.integration


async def test_the_embedded_server_keeps_every_promise(store: MinioObjectStore, client: minio.Minio, s3: S3) -> None:
    with capture_logs() as logs:
        await store.probe()
    assert logs == []
    assert list(client.list_objects(s3.bucket, recursive=True)) == []
