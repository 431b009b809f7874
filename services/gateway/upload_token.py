"""The id of an upload holds all that is known of it, so that nobody has to keep it; used by uploads."""

import base64
import binascii
import dataclasses
import re
import uuid
from typing import Any

from services.common.errors import NotFound
from services.gateway.file_conversion import FINE_TUNE

LIFETIME_SECONDS = 3600
_FORM = re.compile(
    "upload_(?P<id>[0-9a-f]{32})_(?P<created>[0-9]{1,12})_(?P<size>[0-9]{1,15})_(?P<lifetime>[0-9]{1,9})"
    "_(?P<name>[A-Za-z0-9_-]{1,700})"
)
_PART = re.compile(r"part_([0-9a-f]{32})")


@dataclasses.dataclass(frozen=True, slots=True)
class UploadToken:
    """An upload as it was begun; `created_at` in seconds, `size_bytes` as announced."""

    id: uuid.UUID
    created_at: int
    size_bytes: int
    filename: str
    lifetime_seconds: int | None = None
    """Of the file; None = until it is deleted."""

    def __str__(self) -> str:
        name = base64.urlsafe_b64encode(self.filename.encode()).decode().rstrip("=")
        return f"upload_{self.id.hex}_{self.created_at}_{self.size_bytes}_{self.lifetime_seconds or 0}_{name}"

    def upload_object(self, status: str, file: dict[str, Any] | None = None) -> dict[str, Any]:
        """OpenAI's object."""
        return {
            "id": str(self),
            "object": "upload",
            "bytes": self.size_bytes,
            "created_at": self.created_at,
            "expires_at": self.created_at + LIFETIME_SECONDS,
            "filename": self.filename,
            "purpose": FINE_TUNE,
            "status": status,
            "file": file,
        }


def upload_of(given: str, now: float) -> UploadToken:
    """The upload of an id; raises NotFound, also when it was begun more than an hour ago."""
    if not (match := _FORM.fullmatch(given)):
        raise _unknown(given)
    try:
        filename = base64.urlsafe_b64decode(match["name"] + "=" * (-len(match["name"]) % 4)).decode()
    except (binascii.Error, ValueError):
        raise _unknown(given) from None
    lifetime = int(match["lifetime"]) or None
    token = UploadToken(uuid.UUID(match["id"]), int(match["created"]), int(match["size"]), filename, lifetime)
    if now > token.created_at + LIFETIME_SECONDS:
        raise NotFound("UPLOAD_NOT_FOUND", given[:200], message="the upload has expired: it was begun more than an hour ago")
    return token


def part_id(piece: str) -> str:
    """`part_…` of `datasetPieces/{uuid}`."""
    return f"part_{uuid.UUID(piece.rpartition('/')[2]).hex}"


def piece_name(part: str) -> str | None:
    """`datasetPieces/{uuid}` of a part's id; None for what is none."""
    match = _PART.fullmatch(part)
    return f"datasetPieces/{uuid.UUID(match[1])}" if match else None


def _unknown(given: str) -> NotFound:
    return NotFound("UPLOAD_NOT_FOUND", given[:200], message=f"there is no upload {given[:80]!r}")
