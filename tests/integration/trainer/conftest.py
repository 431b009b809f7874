"""A fake storage service and real trainer processes."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

# Tests are imported by path, so the modules beside this file are found through the search path.
sys.path.insert(0, str(Path(__file__).parent))

from trainer_face import Face
from trainer_storage import FakeStorage


@pytest.fixture
async def storage() -> AsyncIterator[FakeStorage]:
    server = FakeStorage()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def make_face(tmp_path: Path, storage: FakeStorage) -> AsyncIterator[Callable[..., Awaitable[Face]]]:
    faces: list[Face] = []

    async def make(**settings: str) -> Face:
        face = Face(tmp_path, storage.port, **settings)
        faces.append(face)
        await face.start()
        return face

    yield make
    for face in faces:
        await face.clean_up()


@pytest.fixture
async def face(make_face: Callable[..., Awaitable[Face]]) -> Face:
    return await make_face()
