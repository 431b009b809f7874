"""Models of a hub with Hugging Face's API, fetched file by file over HTTP; used by `tunesmith model add --hub`.

The API: https://huggingface.co/docs/hub/api, `GET /api/models/{repo}/revision/{revision}?blobs=true` for the list and
`GET /{repo}/resolve/{commit}/{file}` for the bytes. Nothing is executed, and only data is fetched.
"""

import dataclasses
import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tunesmith.checksum import Checksum
from tunesmith.errors import InvalidArgument, NotFound, PermissionDenied, TunesmithError, Unreachable
from tunesmith.transfers import CHUNK_BYTES, Progress, receive, safe_target, summed

_ENDPOINT = "https://huggingface.co"
_PART = r"[A-Za-z0-9][\w.-]{0,95}"
_MODEL = re.compile(rf"(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[A-Za-z0-9][\w./-]{{0,127}}))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
# What storage takes as a base model; weights in other formats and folders of other programs stay where they are.
_SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".model")
_TEXTS = ("README.md", "LICENSE", "LICENSE.md", "NOTICE")
_SECONDS = 60.0
_MAX_LIST_BYTES = 16 * 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a hub's model. `sha256` is empty for small ones, of which a hub tells none."""

    path: str
    size_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, slots=True)
class HubModel:
    """A model at one commit."""

    repository: str
    commit: str
    license: str
    """As its card says; empty = not known."""
    files: tuple[HubFile, ...]


class Hub:
    """One hub: HF_ENDPOINT, or Hugging Face's own; HF_TOKEN is sent to it, and to nobody it leads to."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._endpoint = environment.get("HF_ENDPOINT", "").rstrip("/") or _ENDPOINT
        self._token = environment.get("HF_TOKEN", "")
        if not _is_protected(self._endpoint):
            raise InvalidArgument(f"HF_ENDPOINT={self._endpoint} is no https address", reason="HUB_ADDRESS")

    def model(self, name: str) -> HubModel:
        """What `OWNER/NAME` or `OWNER/NAME@REVISION` is made of; REVISION is a branch, a tag or a commit, default: main.

        Raises:
            InvalidArgument: HUB_NAME, HUB_MODEL_UNFIT without safetensors. NotFound: HUB_MODEL_NOT_FOUND.
            PermissionDenied: HUB_REFUSED. Unreachable: HUB_UNREACHABLE.
        """
        found = _MODEL.fullmatch(name)
        if not found:
            raise InvalidArgument(f"{name[:200]!r} is not OWNER/NAME or OWNER/NAME@REVISION", reason="HUB_NAME")
        repository, revision = found["repo"], urllib.parse.quote(found["revision"] or "main", safe="")
        with self._open(f"/api/models/{repository}/revision/{revision}?blobs=true", name) as answer:
            told = _decoded(_read(answer, _MAX_LIST_BYTES, name), name)
        commit = str(told.get("sha", ""))
        files = tuple(filter(None, map(_file, told.get("siblings") or ())))
        if not _COMMIT.fullmatch(commit):
            raise _unfit(name, "its list of files cannot be read")
        if not any(file.path.endswith(".safetensors") for file in files):
            raise _unfit(name, "it has no safetensors; pickled weights are not taken")
        license_id = (told.get("cardData") or {}).get("license", "")
        return HubModel(repository, commit, license_id if isinstance(license_id, str) else "", files)

    def fetch(self, model: HubModel, directory: Path, progress: Progress | None = None) -> None:
        """Every file of the model into `directory`; interrupted ones are continued. Raises as `model`, and DataLoss."""
        advance = summed(progress, sum(file.size_bytes for file in model.files))
        for file in model.files:
            target, key = safe_target(directory, file.path), f"{model.repository}@{model.commit}/{file.path}"
            receive(partial(self._bytes, model, file), target, key=key, checksum=Checksum(file.sha256), progress=advance)

    def _bytes(self, model: HubModel, file: HubFile, offset: int) -> Iterator[bytes]:
        if offset == file.size_bytes > 0:
            return
        path = f"/{model.repository}/resolve/{model.commit}/{urllib.parse.quote(file.path)}"
        with self._open(path, model.repository, offset) as answer:
            if offset and answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                raise _unreachable(model.repository, "it does not continue downloads")
            left = file.size_bytes - offset
            if answer.length not in (None, left):
                raise _unreachable(model.repository, f"of {file.path} {answer.length} bytes would come, and {left} are missing")
            while left and (chunk := _read(answer, min(left, CHUNK_BYTES), model.repository)):
                left -= len(chunk)
                yield chunk
        if left:
            raise _unreachable(model.repository, f"{file.path} ended {left} bytes too early")

    def _open(self, path: str, name: str, offset: int = 0) -> http.client.HTTPResponse:
        request = urllib.request.Request(self._endpoint + path)  # noqa: S310 - https, or the loopback
        request.add_header("User-Agent", "tunesmith")
        if offset:
            request.add_header("Range", f"bytes={offset}-")
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            answer: http.client.HTTPResponse = _OPENER.open(request, timeout=_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(name, error.code) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(name, str(getattr(error, "reason", error))) from error
        return answer


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Hubs send large files from other hosts; on no way that others can read or change."""

    def redirect_request(self, *arguments: Any) -> urllib.request.Request | None:
        if not _is_protected(arguments[-1]):
            arguments[1].close()
            raise urllib.error.URLError(f"the hub leads to {arguments[-1][:200]}, which is no https address")
        return super().redirect_request(*arguments)


_OPENER = urllib.request.build_opener(_SafeRedirects)


def _is_protected(address: str) -> bool:
    """Whether it is HTTP over TLS, or stays on this machine."""
    place = urllib.parse.urlsplit(address)
    return place.scheme == "https" or (place.scheme == "http" and place.hostname in ("127.0.0.1", "localhost", "::1"))


def _read(answer: http.client.HTTPResponse, count: int, name: str) -> bytes:
    """At most so many bytes, none at the end; raises Unreachable."""
    try:
        return answer.read(count)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(name, str(error) or type(error).__name__) from error


def _file(told: Any) -> HubFile | None:
    """A file that storage would take; None = any other."""
    if not isinstance(told, dict):
        return None
    path, large = str(told.get("rfilename", "")), told.get("lfs") or {}
    if not _FILE.fullmatch(path) or not (path.endswith(_SUFFIXES) or path in _TEXTS):
        return None
    size, sha256 = told.get("size"), str(large.get("sha256", ""))
    return HubFile(path, size, sha256 if _SHA256.fullmatch(sha256) else "") if type(size) is int and size >= 0 else None


def _decoded(text: bytes, name: str) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise _unfit(name, "its list of files cannot be read")
    return told


def _unfit(name: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{name} cannot be added: {why}", reason="HUB_MODEL_UNFIT", hint="Choose a model with safetensors.")


def _unreachable(name: str, why: str) -> Unreachable:
    hint = "Try again, or fetch the model where there is a network and add its directory: tunesmith model add DIRECTORY."
    return Unreachable(f"{name} could not be fetched: {why}", reason="HUB_UNREACHABLE", hint=hint, error_class="transient")


def _refused(name: str, status: int) -> TunesmithError:
    if status in (401, 403):
        hint = "Check the name; for a gated model accept its terms and set HF_TOKEN."
        return PermissionDenied(f"the hub does not give {name} to you ({status})", reason="HUB_REFUSED", hint=hint)
    if status == http.HTTPStatus.NOT_FOUND:
        return NotFound(f"the hub has no {name}", reason="HUB_MODEL_NOT_FOUND", hint="Check name and revision.")
    return _unreachable(name, f"the hub answers {status}")
