"""The rules of retention, as functions of a life and a moment."""

import dataclasses
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import NotFound
from services.storage.retention import AVAILABLE, DELETED, EXPIRED, HOLD, Life, Policy, notice_due, require_available
from services.storage.retention_change import Extend, Hold, Pin, Restore, Unpin

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
POLICY = Policy()
LIFE = Life(AVAILABLE, NOW + 15 * DAY)
MOMENTS = st.integers(-60 * 86400, 60 * 86400).map(lambda seconds: NOW + datetime.timedelta(seconds=seconds))
LIVES = st.builds(
    Life, st.just(AVAILABLE), MOMENTS, pinned=st.booleans(), hold_until=st.none() | MOMENTS, reason=st.sampled_from(["", "x"])
)


@given(LIVES, MOMENTS)
def test_what_is_pinned_or_in_use_or_before_its_time_is_available(life: Life, now: datetime.datetime) -> None:
    kept = life.pinned or now < life.expire_time or (life.hold_until is not None and now < life.hold_until)
    assert (life.state_at(now) == AVAILABLE) == kept
    assert life.is_due(now) != kept


@given(LIVES, MOMENTS, MOMENTS)
def test_the_promised_day_of_restoring_is_never_taken_back_by_the_sweep(
    life: Life, seen: datetime.datetime, swept: datetime.datetime
) -> None:
    promised = life.restorable_until(seen, POLICY)
    if promised is not None and swept >= seen:
        assert life.expired(swept, POLICY).delete_time >= promised


@given(LIVES, MOMENTS)
def test_a_restored_life_is_a_whole_retention_long(life: Life, now: datetime.datetime) -> None:
    expired = life.expired(now, POLICY)
    restored = Restore("back").apply("artifacts/1", expired, now + DAY, POLICY)
    assert restored.state_at(now + 15.9 * DAY) == AVAILABLE
    assert (restored.delete_time, restored.reason) == (None, "back")


@given(LIVES, MOMENTS)
def test_no_change_shortens_a_life_but_unpinning(life: Life, now: datetime.datetime) -> None:
    for change in (Pin("x"), Hold(), Extend("x", extension=DAY)):
        try:
            after = change.apply("artifacts/1", life, now, POLICY)
        except NotFound:
            assert life.state_at(now) == EXPIRED
            continue
        if life.due_time is None:
            assert after.due_time is None
        elif after.due_time is not None:
            assert after.due_time >= life.due_time


def test_a_deleted_life_has_nothing_due_and_does_not_come_back() -> None:
    gone = LIFE.expired(NOW, POLICY).deleted(NOW + 3 * DAY)
    assert (gone.state, gone.due_time) == (DELETED, None)
    with pytest.raises(NotFound, match="bytes are gone"):
        Restore("").apply("artifacts/1", gone, NOW + 3 * DAY, POLICY)


def test_a_stream_of_uses_writes_once_a_minute() -> None:
    held = Hold().apply("artifacts/1", LIFE, NOW, POLICY)
    assert held.hold_until == NOW + HOLD
    assert Hold().apply("artifacts/1", held, NOW + datetime.timedelta(seconds=59), POLICY) is held
    assert Hold().apply("artifacts/1", held, NOW + datetime.timedelta(seconds=61), POLICY).hold_until > held.hold_until


def test_a_hold_of_a_clock_that_went_back_stands() -> None:
    held = dataclasses.replace(LIFE, hold_until=NOW + 30 * DAY)
    assert Hold().apply("artifacts/1", held, NOW, POLICY) is held


def test_unpinning_leaves_the_end_where_it_was() -> None:
    pinned = Pin("champion").apply("artifacts/1", LIFE, NOW, POLICY)
    assert pinned.due_time is None
    assert Unpin("beaten").apply("artifacts/1", pinned, NOW + 90 * DAY, POLICY).due_time == LIFE.expire_time


@pytest.mark.parametrize(
    ("left", "expected"), [(7.1, None), (7, 7), (3.1, 7), (3, 3), (1.5, 3), (1, 1), (0.1, 1), (0, None), (-1, None)]
)
def test_the_announcement_is_the_nearest_that_covers_what_is_left(left: float, expected: int | None) -> None:
    assert notice_due(LIFE, NOW, LIFE.expire_time - left * DAY) == expected


def test_what_never_had_more_days_or_is_pinned_or_over_is_not_announced() -> None:
    short = Life(AVAILABLE, NOW + 2 * DAY)
    assert notice_due(short, NOW, NOW + 0.5 * DAY) is None
    assert notice_due(short, NOW, NOW + 1.5 * DAY) == 1
    assert notice_due(dataclasses.replace(LIFE, pinned=True), NOW, LIFE.expire_time - DAY) is None
    assert notice_due(LIFE.expired(NOW, POLICY), NOW, LIFE.expire_time - DAY) is None


def test_the_refusal_tells_the_date_and_the_way_back() -> None:
    with pytest.raises(NotFound) as caught:
        require_available("artifacts/1", LIFE, NOW + 15 * DAY, POLICY)
    assert caught.value.reason == "ARTIFACT_EXPIRED"
    dates = ("2026-01-16T00:00:00+00:00", "2026-01-19T00:00:00+00:00")
    assert caught.value.message == "artifacts/1 expired at {} and can be restored until {}".format(*dates)
    assert caught.value.hint == "Bring it back: tunesmith artifact restore 1"
