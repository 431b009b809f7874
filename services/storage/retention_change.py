"""What callers may do to the life of an artifact: pure changes that the repository applies under the row's lock."""

import dataclasses
import datetime
from typing import ClassVar, Protocol

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.storage.retention import AVAILABLE, DELETED, HOLD, MAX_AHEAD, Life, Policy, require_available


class Change(Protocol):
    """One wish of a caller."""

    @property
    def action(self) -> str:
        """What the audit calls it; empty = it is not recorded."""

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """The life afterwards; raises ServiceError when it cannot be."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pin:
    """Keep it until it is unpinned."""

    reason: str
    action: ClassVar[str] = "PIN"

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """Raises NotFound (ARTIFACT_EXPIRED)."""
        require_available(name, life, now, policy)
        return dataclasses.replace(life, pinned=True, reason=self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Unpin:
    """Let it expire at its time."""

    reason: str
    action: ClassVar[str] = "UNPIN"

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """Raises NotFound (ARTIFACT_EXPIRED)."""
        require_available(name, life, now, policy)
        return dataclasses.replace(life, pinned=False, reason=self.reason) if life.pinned else life


@dataclasses.dataclass(frozen=True, slots=True)
class Extend:
    """Keep it longer: until `expire_time`, or by `extension` longer than it has; what is past its end has nothing left."""

    reason: str
    expire_time: datetime.datetime | None = None
    extension: datetime.timedelta = datetime.timedelta(0)
    action: ClassVar[str] = "EXTEND"

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """Raises NotFound (ARTIFACT_EXPIRED), and InvalidArgument for a time that is earlier or too far away."""
        require_available(name, life, now, policy)
        field = "expire_time" if self.expire_time else "extension"
        earliest = max(life.expire_time, now)
        wanted = self.expire_time or earliest + self.extension
        if wanted < earliest:
            raise InvalidArgument(Violation(field, f"would end it earlier than {earliest.isoformat()}"))
        if wanted > now + MAX_AHEAD:
            description = f"would end it more than {MAX_AHEAD.days} days from now; pin or export it instead"
            raise InvalidArgument(Violation(field, description))
        return dataclasses.replace(life, expire_time=wanted, reason=self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Expire:
    """End it now, whoever wanted to keep it."""

    reason: str
    action: ClassVar[str] = "EXPIRE"

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """Raises NotFound (ARTIFACT_EXPIRED)."""
        require_available(name, life, now, policy)
        expire_time = min(now, life.expire_time)
        return dataclasses.replace(life, pinned=False, hold_until=None, expire_time=expire_time, reason=self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Restore:
    """Bring it back; it gets its retention anew."""

    reason: str
    action: ClassVar[str] = "RESTORE"

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """Raises ServiceError (ARTIFACT_NOT_EXPIRED) and NotFound (ARTIFACT_EXPIRED) when its bytes are gone."""
        until = life.restorable_until(now, policy)
        if life.state_at(now) == AVAILABLE:
            raise ServiceError("ARTIFACT_NOT_EXPIRED", f"{name} has not expired", metadata={"resource": name})
        if until is None or until <= now:
            require_available(name, dataclasses.replace(life, state=DELETED), now, policy)
        expire_time = now + (life.retention or policy.retention)
        return dataclasses.replace(life, state=AVAILABLE, expire_time=expire_time, delete_time=None, reason=self.reason)


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """It is in use: do not let it expire within the hour."""

    reason: str = ""
    action: ClassVar[str] = ""

    def apply(self, name: str, life: Life, now: datetime.datetime, policy: Policy) -> Life:
        """Raises NotFound (ARTIFACT_EXPIRED). A hold that is less than a minute old stands: a stream of uses costs one write."""
        require_available(name, life, now, policy)
        if life.hold_until and now <= life.hold_until - HOLD + datetime.timedelta(minutes=1):
            return life
        return dataclasses.replace(life, hold_until=now + HOLD)
