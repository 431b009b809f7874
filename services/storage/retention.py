"""When artifacts come to their end: pure functions of a life and a moment; used wherever artifacts are read or changed.

The moment is always one of the database's clock. The database states `due_time` once more, as a generated column, for its index.
"""

import dataclasses
import datetime

from services.common.errors import NotFound

HOLD = datetime.timedelta(hours=1)
"""How long one use of an artifact keeps it."""
MAX_AHEAD = datetime.timedelta(days=365)
"""How far away an end can be moved; what is to stay longer is pinned or exported."""
NOTICE_DAYS = (7, 3, 1)
"""Days before its end at which an artifact is announced."""
ORPHAN_WAIT = datetime.timedelta(hours=24)
"""How long an object without a row is watched before it goes; longer than any upload takes."""

AVAILABLE, EXPIRED, DELETED = "AVAILABLE", "EXPIRED", "DELETED"


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """What an operator decides."""

    retention: datetime.timedelta = datetime.timedelta(days=15)
    """From an artifact's commit, or its return, to its end."""
    grace: datetime.timedelta = datetime.timedelta(hours=72)
    """From its end to the loss of its bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Life:
    """What decides how long an artifact is kept."""

    state: str
    """AVAILABLE, EXPIRED or DELETED, as stored; `state_at` tells what holds at a moment."""
    expire_time: datetime.datetime
    delete_time: datetime.datetime | None = None
    pinned: bool = False
    reason: str = ""
    hold_until: datetime.datetime | None = None
    retention: datetime.timedelta | None = None
    """How long its task wants it kept from its commit, or its return; None = by the policy."""

    @property
    def due_time(self) -> datetime.datetime | None:
        """When the sweeper has something to do; None = never."""
        if self.state == EXPIRED:
            return self.delete_time
        if self.state == DELETED or self.pinned:
            return None
        return max(self.expire_time, self.hold_until or self.expire_time)

    def is_due(self, now: datetime.datetime) -> bool:
        """Whether the sweeper has something to do."""
        return self.due_time is not None and self.due_time <= now

    def state_at(self, now: datetime.datetime) -> str:
        """What readers see: an artifact ends at its moment, not when the sweeper comes by."""
        return EXPIRED if self.state == AVAILABLE and self.is_due(now) else self.state

    def restorable_until(self, now: datetime.datetime, policy: Policy) -> datetime.datetime | None:
        """While expired: until when it can be brought back, at least; None otherwise.

        The grace begins when the sweeper marks it; so all of it is left when the end was long ago: it was pinned, or nothing ran.
        """
        if self.state_at(now) != EXPIRED:
            return None
        if self.delete_time:
            return self.delete_time
        since_end = (self.due_time or now) + policy.grace
        return since_end if since_end > now else now + policy.grace

    def expired(self, now: datetime.datetime, policy: Policy) -> "Life":
        """Past its end, its bytes kept for the grace from now."""
        return dataclasses.replace(self, state=EXPIRED, delete_time=now + policy.grace)

    def deleted(self, now: datetime.datetime) -> "Life":
        """Without bytes."""
        return dataclasses.replace(self, state=DELETED, delete_time=now)


def ahead(policy: Policy) -> datetime.timedelta:
    """How long before their end the checkpoints of a live task get their retention anew: longer than any pause between sweeps."""
    return min(datetime.timedelta(days=1), policy.retention / 2)


def notice_due(life: Life, create_time: datetime.datetime, now: datetime.datetime) -> int | None:
    """The announcement to make at a moment: the smallest of the days that covers what is left, None = none.

    A life that was never longer than the days is not announced: who made it knows.
    """
    if life.state != AVAILABLE or life.pinned or life.expire_time <= now:
        return None
    left, whole = life.expire_time - now, life.expire_time - create_time
    covering = [days for days in NOTICE_DAYS if left <= datetime.timedelta(days=days)]
    days = min(covering, default=0)
    return days if days and whole > datetime.timedelta(days=days) else None


def require_available(name: str, life: Life, now: datetime.datetime, policy: Policy) -> None:
    """Raises NotFound (ARTIFACT_EXPIRED) for what has come to its end; tells when, and how to get it again."""
    if life.state_at(now) == AVAILABLE:
        return
    until = life.restorable_until(now, policy)
    if until is None or until <= now:
        raise _expired(name, life, "and its bytes are gone")
    error = _expired(name, life, f"and can be restored until {_text(until)}")
    error.metadata["delete_time"] = _text(until)
    error.hint = f"Bring it back: tunesmith artifact restore {name.rpartition('/')[2]}"
    raise error


def _expired(name: str, life: Life, what_now: str) -> NotFound:
    when = _text(life.expire_time)
    error = NotFound("ARTIFACT_EXPIRED", name, message=f"{name} expired at {when} {what_now}")
    error.metadata["expire_time"] = when
    return error


def _text(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).isoformat(timespec="seconds")
