"""Uploads: everything is in the id, parts pass through, their order is told at the end."""

import asyncio
import uuid

import pytest

from services.common.errors import NotFound
from services.gateway.upload_token import UploadToken, upload_of

UPLOADS = "/v1/uploads"
BEGIN = {"filename": "träin.jsonl", "purpose": "fine-tune", "bytes": 9, "mime_type": "text/jsonl"}


async def part(http, upload: dict, body: bytes) -> str:
    answer = await http.post(f"{UPLOADS}/{upload['id']}/parts", files={"data": ("upload", body)})
    assert answer.status_code == 200, answer.text
    assert answer.json()["upload_id"] == upload["id"]
    return answer.json()["id"]


async def test_parts_in_any_order_make_the_file_in_the_order_told(http, platform) -> None:
    upload = (await http.post(UPLOADS, json=BEGIN)).json()
    assert (upload["status"], upload["bytes"], upload["filename"], upload["file"]) == ("pending", 9, "träin.jsonl", None)
    assert upload["expires_at"] == upload["created_at"] + 3600
    last, first, middle = await asyncio.gather(*(part(http, upload, body) for body in (b"c" * 3, b"a" * 3, b"b" * 3)))
    done = (await http.post(f"{UPLOADS}/{upload['id']}/complete", json={"part_ids": [first, middle, last], "md5": "AB"})).json()
    assert (done["status"], done["file"]["bytes"], done["file"]["filename"]) == ("completed", 9, "träin.jsonl")
    assert platform.datasets.uploads[0][1] == b"aaabbbccc"
    (joined,) = platform.datasets.joined
    assert (joined.size_bytes, joined.md5) == (9, "ab")
    assert (await http.get(f"/v1/files/{done['file']['id']}")).json() == done["file"]


async def test_cancelling_removes_the_parts(http, platform) -> None:
    upload = (await http.post(UPLOADS, json=BEGIN)).json()
    sent = await part(http, upload, b"a")
    assert (await http.post(f"{UPLOADS}/{upload['id']}/cancel")).json()["status"] == "cancelled"
    assert platform.datasets.pieces == {}
    answer = await http.post(f"{UPLOADS}/{upload['id']}/complete", json={"part_ids": [sent]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "upload_incomplete")


async def test_a_repeat_under_one_key_is_the_same_upload(http) -> None:
    ids = [(await http.post(UPLOADS, json=BEGIN, headers={"idempotency-key": "k"})).json()["id"] for _ in range(2)]
    assert ids[0].split("_")[1] == ids[1].split("_")[1]


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"filename": None}, "filename"),
        ({"filename": ""}, "filename"),
        ({"bytes": 0}, "bytes"),
        ({"bytes": "9"}, "bytes"),
        ({"bytes": 2**40}, "bytes"),
        ({"purpose": "vision"}, "purpose"),
        ({"purpose": None}, "purpose"),
        ({"expires_after": 3600}, "expires_after"),
        ({"expires_after": {"anchor": "created_at", "seconds": 3599}}, "expires_after.seconds"),
        ({"expires_after": {"anchor": "last_active_at", "seconds": 3600}}, "expires_after.anchor"),
        ({"expires_after": {"anchor": "created_at"}}, "expires_after.seconds"),
    ],
    ids=str,
)
async def test_a_bad_field_is_named(http, change: dict, parameter: str) -> None:
    answer = await http.post(UPLOADS, json={**BEGIN, **change})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, parameter)


@pytest.mark.parametrize("part_ids", [None, [], ["part_x"], [3], "part"], ids=str)
async def test_bad_part_ids_are_named(http, part_ids) -> None:
    upload = (await http.post(UPLOADS, json=BEGIN)).json()
    answer = await http.post(f"{UPLOADS}/{upload['id']}/complete", json={"part_ids": part_ids})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("part_ids")


async def test_a_part_is_a_file_called_data(http, platform) -> None:
    upload = (await http.post(UPLOADS, json=BEGIN)).json()
    for form in ({"files": {"file": b"x"}}, {"files": {"x": (None, b"1")}}):
        answer = await http.post(f"{UPLOADS}/{upload['id']}/parts", **form)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_how_long_the_file_is_kept_is_told_to_storage_at_the_end(http, platform) -> None:
    begin = {**BEGIN, "expires_after": {"anchor": "created_at", "seconds": 7200}}
    upload = (await http.post(UPLOADS, json=begin)).json()
    assert upload["expires_at"] == upload["created_at"] + 3600  # of the upload, not of the file
    part = await http.post(f"{UPLOADS}/{upload['id']}/parts", files={"data": b"x"})
    await http.post(f"{UPLOADS}/{upload['id']}/complete", json={"part_ids": [part.json()["id"]]})
    assert platform.datasets.joined[0].header.lifetime_seconds == 7200


@pytest.mark.parametrize("lifetime", [None, 3600])
@pytest.mark.parametrize("name", ["ä" * 128, "x", "9", "3600_x"])
def test_an_id_is_the_upload_for_an_hour(lifetime: int | None, name: str) -> None:
    token = UploadToken(uuid.uuid4(), 1000, 5, name, lifetime)
    assert upload_of(str(token), 1000 + 3600) == token
    with pytest.raises(NotFound, match="more than an hour ago"):
        upload_of(str(token), 1000 + 3601)


@pytest.mark.parametrize(
    "given", ["", "upload_x", f"upload_{'0' * 32}_1_1_0_", f"upload_{'0' * 32}_1_1_0__w", f"upload_{'0' * 32}_x_1_0_YQ"]
)
async def test_what_is_no_upload_is_not_found(http, given: str) -> None:
    with pytest.raises(NotFound):
        upload_of(given, 0.0)
    if given:
        answer = await http.post(f"{UPLOADS}/{given}/cancel")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "upload_not_found")
