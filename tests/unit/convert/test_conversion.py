"""Whole conversions: what is recognised, what is written, and that the checker of the services takes it."""

import io
import json

import pyarrow
import pyarrow.parquet
import pytest

from tunesmith.convert.columns import Columns
from tunesmith.convert.conversion import FAILURES_KEPT, Wish, convert, file_kind
from tunesmith.errors import InvalidArgument
from tunesmith.offline.checker import check

ALPACA = [{"instruction": f"Say {n}", "input": "", "output": str(n)} for n in range(20)]
SHAREGPT = [{"conversations": [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": f"a{n}"}]} for n in range(20)]
PROMPTS = [{"prompt": f"q{n}", "completion": f"a{n}"} for n in range(20)]
PAIRS = [{"prompt": f"q{n}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(20)]


@pytest.fixture
def run(tmp_path):
    def run(content, wish=None, name="file.json"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        sink = io.BytesIO()
        conversion = convert(path, sink, wish or Wish())
        return conversion, [json.loads(line) for line in sink.getvalue().splitlines()]

    return run


def parquet(rows):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "wish", "target"),
    [
        (json.dumps(ALPACA), "a.json", Wish(), "chat"),
        ("\n".join(map(json.dumps, ALPACA)), "a.jsonl", Wish(source="alpaca", system="Be short."), "chat"),
        (json.dumps(SHAREGPT, indent=1), "a.json", Wish(), "chat"),
        (json.dumps(PROMPTS), "a.json", Wish(), "chat"),
        (json.dumps(PROMPTS), "a.json", Wish(target="text"), "text"),
        (json.dumps(PAIRS), "a.json", Wish(), "preference"),
        (json.dumps(PAIRS), "a.json", Wish(target="chat"), "chat"),
        ("question,answer\n" + "x,y\n" * 20, "a.csv", Wish(), "chat"),
        ("t,l\n" + "x,spam\ny,ham\n" * 10, "a.csv", Wish(columns=Columns(text="t", label="l")), "labeled"),
        ("text\n" + "some words\n" * 20, "a.csv", Wish(), "text"),
        (parquet(ALPACA), "a.parquet", Wish(), "chat"),
        (
            parquet([{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}] * 20),
            "a",
            Wish(),
            "chat",
        ),
        (parquet(PAIRS), "a.bin", Wish(source="parquet"), "preference"),
    ],
)
def test_what_is_converted_passes_the_check(run, tmp_path, content, name, wish, target):
    conversion, rows = run(content, wish, name)
    assert (conversion.target, conversion.converted_count, conversion.failure_count, len(rows)) == (target, 20, 0, 20)
    out = tmp_path / "out.jsonl"
    out.write_text("".join(json.dumps(row) + "\n" for row in rows))
    checked = check(out)
    assert checked.accepted, checked.report
    assert checked.report.statistics.example_count == 20


def test_rows_that_cannot_be_converted_are_left_out_by_line_and_reason(run):
    lines = [json.dumps(ALPACA[0]), '{"instruction": "x", "output": ""}', "[1]", "{", json.dumps(ALPACA[1])]
    conversion, rows = run("\n".join(lines))
    assert len(rows) == conversion.converted_count == 2
    assert [(failure.number, failure.reason) for failure in conversion.failures] == [
        (2, "output is empty"),
        (3, "is not an object"),
        (4, "is not JSON: Expecting property name enclosed in double quotes at column 2"),
    ]


def test_all_failures_are_counted_and_the_first_are_kept(run):
    conversion, _ = run(json.dumps(ALPACA[0]) + "\n" + '{"instruction": "x"}\n' * (FAILURES_KEPT + 5))
    assert (conversion.failure_count, len(conversion.failures)) == (FAILURES_KEPT + 5, FAILURES_KEPT)


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN"])
def test_what_json_cannot_hold_is_a_failure(run, value):
    row = '{"prompt": [{"role": "user", "content": ' + value + '}], "completion": "x"}'
    conversion, rows = run(row)
    assert (rows, conversion.failures[0].reason.startswith("cannot be written as JSON")) == ([], True)


@pytest.mark.parametrize(
    ("content", "wish", "reason"),
    [
        ("", Wish(), "FILE_EMPTY"),
        ("[]", Wish(), "FILE_EMPTY"),
        ('{"a": 1}', Wish(), "FORMAT_UNKNOWN"),
        ("[1, 2]", Wish(), "FORMAT_UNKNOWN"),
        ('{"messages": []}', Wish(), "ALREADY_CONVERTED"),
        ('{"text": "x"}', Wish(), "ALREADY_CONVERTED"),
        (json.dumps(ALPACA), Wish(target="preference"), "TARGET_UNKNOWN"),
        (json.dumps(ALPACA).encode() + b"\xff", Wish(), "FILE_NOT_UTF8"),
        (b"PAR1", Wish(), "PARQUET_INVALID"),
    ],
)
def test_a_file_that_cannot_be_converted_is_refused_with_what_to_do(run, content, wish, reason):
    with pytest.raises(InvalidArgument) as caught:
        run(content, wish)
    assert caught.value.reason == reason
    assert caught.value.hint


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InvalidArgument) as caught:
        convert(tmp_path / "none", io.BytesIO(), Wish())
    assert caught.value.reason == "FILE_NOT_FOUND"


@pytest.mark.parametrize(
    ("content", "name", "source", "kind"),
    [
        (b"PAR1xx", "a.csv", "", "parquet"),
        (b"a,b", "a.csv", "", "csv"),
        (b"a\tb", "A.TSV", "", "csv"),
        (b"a,b", "a.txt", "csv", "csv"),
        (b"{}", "a.jsonl", "", "json"),
        (b"", "a", "alpaca", "json"),
    ],
)
def test_the_kind_of_a_file_is_told_by_its_bytes_then_its_name(tmp_path, content, name, source, kind):
    (tmp_path / name).write_bytes(content)
    assert file_kind(tmp_path / name, source) == kind
