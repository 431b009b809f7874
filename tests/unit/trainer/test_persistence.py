"""Waiting for storage: for ever where that can help, not at all where it cannot."""

import asyncio
import errno

import pytest

from services.common.errors import NotFound, ServiceError, Unavailable
from services.trainer.persistence import disk_trouble_named, is_not_transient, loses_the_result, persist

AWAY = Unavailable("STORAGE_UNAVAILABLE", "storage did not answer")
MISMATCH = ServiceError("CHECKSUM_MISMATCH", "other bytes")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seen: list[float] = []

    async def sleep(seconds: float) -> None:
        seen.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seen


class Flaky:
    """Fails with each error in turn, then works."""

    def __init__(self, *errors: ServiceError) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def attempt(operation: Flaky, notes: list[str] | None = None, clock=lambda: 0.0, is_final=is_not_transient) -> str:
    def note(text: str, severity: str = "INFO") -> None:
        assert severity == "WARNING"
        if notes is not None:
            notes.append(text)

    return await persist(operation, is_final=is_final, note=note, clock=clock)


async def test_it_waits_longer_each_time_up_to_a_limit(pauses: list[float]) -> None:
    assert await attempt(Flaky(*[AWAY] * 9)) == "done"
    assert pauses == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10])


async def test_the_first_failure_is_noted_and_then_one_a_minute() -> None:
    notes: list[str] = []
    times = iter(range(0, 10_000, 10))
    await attempt(Flaky(*[AWAY] * 20), notes, clock=lambda: float(next(times)))
    assert 2 <= len(notes) < 10
    assert "storage did not answer" in notes[0]


async def test_a_final_error_is_raised_at_once(pauses: list[float]) -> None:
    with pytest.raises(NotFound):
        await attempt(Flaky(NotFound("DATASET_NOT_FOUND", "datasets/x")))
    assert pauses == []


async def test_wrong_bytes_are_asked_for_a_few_times_only() -> None:
    assert await attempt(Flaky(*[MISMATCH] * 4)) == "done"
    broken = Flaky(*[MISMATCH] * 100)
    with pytest.raises(ServiceError, match="other bytes"):
        await attempt(broken)
    assert broken.calls == 5


async def test_a_result_is_given_up_only_when_nobody_can_ever_take_it() -> None:
    defect = ServiceError("INTERNAL", "a defect in storage")
    full = ServiceError("DISK_FULL", "no room in storage")
    key = ServiceError("UNAUTHENTICATED", "the API key is missing or wrong")
    assert await attempt(Flaky(AWAY, defect, full, key), is_final=loses_the_result) == "done"
    for final in (ServiceError("STALE_EPOCH", "a newer attempt"), ServiceError("UPLOAD_MALFORMED", "a newer contract")):
        with pytest.raises(ServiceError, match="newer"):
            await attempt(Flaky(final), is_final=loses_the_result)


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "DISK_FULL"), (errno.EDQUOT, "DISK_FULL"), (errno.EACCES, "RUN_PREPARATION_FAILED")],
)
def test_trouble_with_files_gets_a_name(number: int, reason: str) -> None:
    with pytest.raises(ServiceError) as caught, disk_trouble_named():
        raise OSError(number, "trouble")
    assert caught.value.reason == reason
