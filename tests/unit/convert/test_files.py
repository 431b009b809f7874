"""Kinds of files: where rows begin, what is wrong with them, whatever the size of what is looked at."""

import json

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.convert import csv_file, json_file, parquet_file
from tunesmith.errors import InvalidArgument, TunesmithError


@pytest.fixture
def read(tmp_path):
    """Records of a text as (number, values or problem)."""

    def read(reader, content):
        path = tmp_path / "file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return [(record.number, record.problem or record.values) for record in reader.read(path)]

    return read


@pytest.fixture(params=[1, 7, 256 * 1024])
def chunks(request, monkeypatch):
    monkeypatch.setattr(json_file, "_CHUNK_CHARACTERS", request.param)


@pytest.mark.usefixtures("chunks")
class TestJson:
    def test_lines_and_arrays_give_the_same_rows_with_their_lines(self, read):
        rows = [{"a": 1}, {"b": [1, {"c": "x, ] y\\"}]}, {"d": 10**20}]
        lines = "\n".join(map(json.dumps, rows))
        assert read(json_file, lines) == list(enumerate(rows, start=1))
        assert read(json_file, "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]") == list(enumerate(rows, start=2))
        assert [row for _, row in read(json_file, json.dumps(rows, indent=2))] == rows

    def test_byte_order_marks_line_ends_and_blank_lines_do_not_matter(self, read):
        assert read(json_file, '\ufeff\r\n{"a": 1}\r\n\r\n  \r\n{"b": 2}') == [(2, {"a": 1}), (5, {"b": 2})]

    def test_a_bad_line_is_named_and_the_next_is_read(self, read):
        found = read(json_file, '{"a": 1}\n{"a": }\n{"a": 3}\n')
        assert found[0] == (1, {"a": 1})
        assert found[1] == (2, "is not JSON: Expecting value at column 7")
        assert found[2] == (3, {"a": 3})

    def test_an_array_ends_at_its_first_broken_row(self, read):
        found = read(json_file, '[{"a": 1},\n{"a": oops and much more text behind it}, {"a": 3}]')
        assert found[0] == (1, {"a": 1})
        assert found[1][0] == 2
        assert "is not JSON" in found[1][1]
        assert len(found) == 2

    @pytest.mark.parametrize("text", ['[{"a": 1}', '[{"a": 1},'])
    def test_a_cut_array_is_noticed(self, read, text):
        assert read(json_file, text) == [(1, {"a": 1}), (1, "the array has no end: the file is cut")]

    def test_an_array_cut_within_a_row_is_a_row_that_is_no_json(self, read):
        assert "is not JSON" in read(json_file, '[{"a": 1}, {"b": "x')[-1][1]

    @pytest.mark.parametrize("row", ["[" * 100_000, '{"a":' * 50_000, "9" * 5000], ids=["arrays", "objects", "digits"])
    def test_hostile_rows_are_a_problem_and_no_crash(self, read, row):
        ((_, problem),) = read(json_file, '[{"a": ' + row + "}]")[:1]
        assert "is not JSON" in problem

    @pytest.mark.parametrize("text", ["", " \n ", "[]"])
    def test_nothing_is_no_row(self, read, text):
        assert read(json_file, text) == []


@given(
    st.lists(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=3), max_size=6),
    st.integers(1, 40),
)
def test_every_array_is_read_as_it_was_written(tmp_path_factory, rows, size):
    path = tmp_path_factory.mktemp("array") / "file"
    path.write_text(json.dumps(rows, ensure_ascii=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_file, "_CHUNK_CHARACTERS", size)
        assert [record.values for record in json_file.read(path)] == rows


def test_a_row_that_never_ends_is_refused(read, monkeypatch):
    monkeypatch.setattr(json_file, "_LONGEST_ROW", 1000)
    monkeypatch.setattr(json_file, "_CHUNK_CHARACTERS", 100)
    with pytest.raises(InvalidArgument) as caught:
        read(json_file, '{"a": "' + "x" * 5000)
    assert caught.value.reason == "ROW_TOO_LONG"


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_the_delimiter_is_recognised(self, read, delimiter):
        assert read(csv_file, f"q{delimiter}a\nx{delimiter}y\n") == [(2, {"q": "x", "a": "y"})]

    def test_quoted_fields_hold_lines_and_delimiters(self, read):
        found = read(csv_file, 'q,a\n"one\ntwo, three","say ""hi"""\nx,y\n')
        assert found == [(2, {"q": "one\ntwo, three", "a": 'say "hi"'}), (4, {"q": "x", "a": "y"})]

    def test_a_row_of_another_length_is_named_and_the_next_is_read(self, read):
        found = read(csv_file, "q,a\nx,y,z\nx\n\nx,y\n")
        assert found == [(2, "has 3 fields, the header has 2"), (3, "has 1 fields, the header has 2"), (5, {"q": "x", "a": "y"})]

    def test_a_quote_that_is_not_closed_is_a_problem(self, read):
        ((number, problem),) = read(csv_file, 'q,a\n"x,y\n')
        assert (number, "is not CSV" in problem) == (2, True)

    def test_a_byte_order_mark_is_no_part_of_the_first_name(self, read):
        assert read(csv_file, "\ufeffq,a\r\nx,y\r\n") == [(2, {"q": "x", "a": "y"})]

    def test_two_columns_of_one_name_are_refused(self, read):
        with pytest.raises(InvalidArgument) as caught:
            read(csv_file, "q,q\n1,2\n")
        assert caught.value.reason == "CSV_HEADER_INVALID"

    def test_an_empty_file_has_no_rows(self, read):
        assert read(csv_file, "") == []


class TestParquet:
    def test_rows_come_with_their_numbers(self, tmp_path):
        path = tmp_path / "file.parquet"
        rows = [{"messages": [{"role": "user", "content": str(number)}]} for number in range(600)]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        assert [(record.number, record.values) for record in parquet_file.read(path)] == list(enumerate(rows, start=1))

    @pytest.mark.parametrize("content", [b"PAR1", b"PAR1 and then something else PAR1", b""])
    def test_a_broken_file_is_refused(self, read, content):
        with pytest.raises(InvalidArgument) as caught:
            read(parquet_file, content)
        assert caught.value.reason == "PARQUET_INVALID"

    def test_without_pyarrow_the_command_that_installs_it_is_named(self, read, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
        with pytest.raises(TunesmithError) as caught:
            read(parquet_file, b"")
        assert (caught.value.reason, "pip install 'tunesmith[parquet]'" in caught.value.hint) == ("PYARROW_MISSING", True)
