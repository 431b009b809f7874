"""Everything that is known to hurt parsers, a thousand times over and in files of real size: an answer, in bounded memory."""

import gzip
import json
import os
import pathlib
import random
from typing import Any

import pytest
from unit.storage.checking.checks import ANSWER, GOOD, USER, Checked, of
from unit.storage.checking.test_hostile_files import MIB, ROW, checked

from services.storage.checking.budget import Budget

HOSTILE: dict[str, tuple[bytes, str]] = {
    "nesting 100,000 deep": (b'{"a": ' + b"[" * 100_000, "DATASET_TOO_DEEP"),
    "objects 100,000 deep": (b'{"a": ' * 100_000, "DATASET_TOO_DEEP"),
    "closed nesting": (b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "DATASET_TOO_DEEP"),
    "invalid UTF-8": (b'{"a": "\xff\xfe"}', "DATASET_NOT_UTF8"),
    "half an UTF-8 character": (b'{"a": "\xe2\x82"}', "DATASET_NOT_UTF8"),
    "a surrogate in UTF-8": (b'{"a": "\xed\xa0\x80"}', "DATASET_NOT_UTF8"),
    "a lone surrogate": (of(USER, '{"role": "assistant", "content": "\\ud800"}').encode(), "DATASET_LONE_SURROGATE"),
    "a surrogate as key": (of(USER, ANSWER, more=', "\\udfff": 1').encode(), "DATASET_LONE_SURROGATE"),
    "NUL": (b'{"a": "\0"}', "DATASET_NUL"),
    "only NUL": (b"\0" * 50, "DATASET_NUL"),
    "NaN": (b'{"a": NaN}', "DATASET_NUMBER"),
    "Infinity": (b'{"a": [1, Infinity]}', "DATASET_NUMBER"),
    "minus Infinity": (b'{"a": -Infinity}', "DATASET_NUMBER"),
    "a double that is none": (b'{"a": 1e400}', "DATASET_NUMBER"),
    "5,000 digits": (b'{"a": ' + b"7" * 5000 + b"}", "DATASET_NUMBER"),
    "minus 5,000 digits": (b'{"a": -' + b"7" * 5000 + b"}", "DATASET_NUMBER"),
    "5,000 digits as a label": (of(USER, more=', "label": ' + "1" * 5000).encode(), "DATASET_NUMBER"),
    "a key twice": (b'{"messages": [], "messages": []}', "DATASET_DUPLICATE_KEY"),
    "a key twice, spelled otherwise": (b'{"a": 1, "\\u0061": 2}', "DATASET_DUPLICATE_KEY"),
    "a thousand equal keys": (b"{" + b'"a": 1, ' * 1000 + b'"a": 1}', "DATASET_DUPLICATE_KEY"),
    "control characters": (b'{"a": "\x01\x02"}', "DATASET_CONTROL_CHARACTER"),
    "a quote without end": (b'{"a": "' + b"\\\\" * 1000, "DATASET_TRUNCATED"),
    "backslashes": (b'{"a": "' + b"\\" * 1001 + b'"}', "DATASET_TRUNCATED"),
    "an escape nobody knows": (b'{"a": "\\q"}', "DATASET_ESCAPE"),
    "gzip in a line": (gzip.compress(b"x" * 10).replace(b"\n", b""), "DATASET_NOT_UTF8"),
    "terminal codes": (b'{"a": "\x1b[2J"}', "DATASET_CONTROL_CHARACTER"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_row_is_the_only_bad_one(name: str) -> None:
    row, reason = HOSTILE[name]
    result = Checked(ROW * 20 + row + b"\n" + ROW * 20, budget=Budget(1))
    assert [(line, found) for line, _, found in result.places] == [(21, reason)]
    assert (result.outcome["accepted"], result.outcome["row_count"]) == (True, 40)
    (violation,) = result.report["violations"]
    assert len(violation["message"]) < 300
    assert len(violation["path"]) <= 200
    json.dumps(violation, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_begins_with_it_has_an_answer(name: str) -> None:
    outcome = Checked(HOSTILE[name][0]).outcome
    assert not outcome["accepted"]
    assert outcome["report"]["violations"][0]["hint"]


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_in_an_array_too_however_it_is_cut(name: str) -> None:
    content = b"[" + GOOD.encode() + b",\n" + HOSTILE[name][0] + b",\n" + GOOD.encode() + b"]"
    whole = Checked(content).outcome
    assert not whole["accepted"]
    assert whole["report"]["violations"][0]["line"] == 2
    assert Checked(content, cut=997).outcome == whole


def test_thousands_of_hostile_rows_take_no_memory(tmp_path: pathlib.Path) -> None:
    short = [row for row, _ in HOSTILE.values() if len(row) < 20_000]
    random.Random(1).shuffle(short)
    block = b"".join(row + b"\n" + ROW for row in short)
    outcome, memory = checked(tmp_path, [block] * (6_000 // len(short)))
    report: dict[str, Any] = outcome["report"]
    assert len(report["violations"]) == 100
    assert sum(report["violations_by_reason"].values()) == report["violation_count"] == 6_000 // len(short) * len(short)
    assert memory < 150


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [(b" ", "DATASET_EMPTY"), (b"\n", "DATASET_EMPTY"), (b" \r\n\t", "DATASET_EMPTY")],
    ids=["blanks", "line ends", "both"],
)
def test_a_big_file_of_white_space_is_empty(tmp_path: pathlib.Path, chunk: bytes, reason: str) -> None:
    outcome, memory = checked(tmp_path, [chunk * (MIB // len(chunk))] * 4)
    assert [found["reason"] for found in outcome["report"]["violations"]] == [reason]
    assert memory < 250


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08", b"PK\x03\x04", b""], ids=["gzip", "zip", "noise"])
def test_a_big_file_of_noise_is_refused(tmp_path: pathlib.Path, start: bytes) -> None:
    noise = os.urandom(MIB)
    outcome, memory = checked(tmp_path, [start, *[noise] * 6])
    assert not outcome["accepted"]
    assert outcome["row_count"] == 0
    assert memory < 200


def test_many_empty_objects_are_counted_and_not_kept(tmp_path: pathlib.Path) -> None:
    outcome, memory = checked(tmp_path, [b"{}\n" * 10_000] * 5)
    assert (outcome["report"]["violation_count"], len(outcome["report"]["violations"])) == (50_000, 100)
    assert memory < 150
