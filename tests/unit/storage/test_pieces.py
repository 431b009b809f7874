"""PieceSuite over the fakes."""

import datetime

from unit.storage.piece_suite import CUT, PieceSuite, send
from unit.storage.service import Service


class TestPieces(PieceSuite):
    """All rules of the suite."""


async def test_pieces_nobody_joins_are_removed_after_a_day(service: Service, advance) -> None:
    await send(service, "0c3f9b52-7d0f-4a3c-9d0c-2f1f0a4b7f11", *CUT)
    await advance(datetime.timedelta(hours=23))
    await service.sweep()
    assert len(await service.keys()) == 3
    await advance(datetime.timedelta(hours=2))
    await service.sweep()
    assert await service.keys() == set()
