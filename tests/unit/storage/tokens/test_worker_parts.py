"""The parts of the token worker in one process: rows from a pipe, previews, lengths, and messages of the contract."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import make_tiny_model

from services.common.errors import ServiceError
from services.common.rendering import Renderer, RenderError, digest, render_row
from services.storage.tokens import messages, process_limits
from services.storage.tokens.__main__ import _parser
from services.storage.tokens.context import default_length
from services.storage.tokens.overlaps import Overlap, count_overlap
from services.storage.tokens.previews import preview_row
from services.storage.tokens.row_lines import read_rows
from services.storage.tokens.row_rendering import rendered
from services.storage.tokens.token_counts import PERCENTILES, Lengths, RefusedRow, TokenCounts, count_tokens

ASK, SAY = {"role": "user", "content": "q"}, {"role": "assistant", "content": "abc"}
CHAT = {"messages": [ASK, SAY]}
PAIR = {"input": {"messages": [ASK]}, "preferred_output": [SAY], "non_preferred_output": [{**SAY, "content": "x"}]}
LABELED = {"messages": [ASK], "label": "a"}


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return Renderer.from_directory(make_tiny_model(tmp_path_factory.mktemp("tiny")))


# Rows from a pipe


@given(st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)), st.integers(1, 10**9))
def test_rows_have_consecutive_numbers(rows, first):
    stream = io.BytesIO(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    assert list(read_rows(stream, first)) == list(enumerate(rows, start=first))


def test_blank_lines_are_no_rows():
    assert list(read_rows(io.BytesIO(b"\n  \n{}\n\r\n{}"))) == [(1, {}), (2, {})]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "row 2 is not JSON"),
        (b"\xff", "row 2 is not JSON"),
        (b"[" * 100_000, "row 2 is not JSON"),
        (b"[1]", "row 2 is not an object"),
        (b"null", "row 2 is not an object"),
    ],
)
def test_a_line_that_is_no_row_is_named(line, says):
    with pytest.raises(ServiceError, match=says) as caught:
        list(read_rows(io.BytesIO(b"{}\n" + line)))
    assert (caught.value.reason, caught.value.metadata) == ("DATASET_UNUSABLE", {"row": "2"})


# Rendering


@pytest.mark.parametrize("row", [CHAT, PAIR, LABELED, {"text": "abc"}])
def test_a_row_is_rendered_as_everywhere(renderer, row):
    assert rendered(renderer, row, 1) == render_row(renderer, row)


@pytest.mark.parametrize("row", [{}, {"messages": 7}, {"messages": [1]}, {"input": {}}, {"text": 5}, {"messages": None}])
def test_a_row_that_cannot_be_rendered_is_named(renderer, row):
    with pytest.raises(RenderError, match="row 41") as caught:
        rendered(renderer, row, 41)
    assert caught.value.reason == "DATASET_UNUSABLE"


@pytest.mark.parametrize(("row", "roles"), [(CHAT, [""]), (PAIR, ["preferred", "non_preferred"]), (LABELED, [""])])
def test_a_preview_has_a_rendering_for_each_text(renderer, row, roles):
    preview = preview_row(renderer, row, 7, 1000)
    renderings = render_row(renderer, row)
    assert (preview.row, preview.sha256) == (7, digest(renderings))
    assert [each.role for each in preview.renderings] == roles
    assert [each.trainable_token_count for each in preview.renderings] == [sum(one.loss_mask) for one in renderings]


@pytest.mark.parametrize("limit", [1, 5, 20, 1000])
def test_a_preview_marks_what_is_cut(renderer, limit):
    (rendering,) = preview_row(renderer, CHAT, 1, limit).renderings
    assert [token.cut for token in rendering.tokens] == [index >= limit for index in range(len(rendering.tokens))]
    assert rendering.trainable_token_count == sum(token.trained and not token.cut for token in rendering.tokens)


def test_the_fingerprint_of_a_preview_does_not_depend_on_the_cut(renderer):
    assert preview_row(renderer, CHAT, 1, 1).sha256 == preview_row(renderer, CHAT, 9, 1000).sha256


# Lengths


@given(st.lists(st.integers(0, 300), min_size=1, max_size=60))
def test_percentiles_are_by_nearest_rank(lengths):
    found = Lengths()
    found.rows.update(lengths)
    ordered = sorted(lengths)
    for percent, length in found.percentiles().items():
        assert length == ordered[max(-(-percent * len(ordered) // 100), 1) - 1]
    assert list(found.percentiles()) == list(PERCENTILES)
    assert found.mean == pytest.approx(sum(lengths) / len(lengths))


@given(st.lists(st.integers(1, 5000), max_size=60))
def test_every_row_is_in_one_bucket_of_the_histogram(lengths):
    found = Lengths()
    found.rows.update(lengths)
    histogram = found.histogram()
    assert sum(histogram.values()) == len(lengths)
    for up_to, count in histogram.items():
        assert up_to & (up_to - 1) == 0
        assert count == sum(up_to // 2 < length <= up_to or length == up_to == 1 for length in lengths)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"max_position_embeddings": 8192}, 2048),
        ({"max_position_embeddings": 0}, 2048),
        ({"max_position_embeddings": "512"}, 2048),
        ({}, 2048),
    ],
)
def test_the_default_length_is_that_of_the_model_up_to_2048(tmp_path, config, length):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert default_length(tmp_path) == length


# Messages


def test_statistics_have_everything_that_was_counted(renderer):
    counts = count_tokens(renderer, enumerate([CHAT, PAIR, LABELED, {"messages": 7}], start=1), 10)
    said = json.loads(messages.as_line(messages.statistics(counts, 10)))
    assert (said["max_seq_length"], said["example_count"], said["violation_count"]) == (10, "3", "1")
    assert said["violations"][0]["line"] == "4"
    assert int(said["lengths"]["max"]) == max(counts.lengths.rows)
    assert sum(int(bucket["count"]) for bucket in said["lengths"]["histogram"]) == 3


def test_statistics_of_nothing_are_empty():
    said = json.loads(messages.as_line(messages.statistics(TokenCounts(), 8)))
    assert said == {"max_seq_length": 8, "lengths": said["lengths"]}


def test_a_refused_row_is_a_violation():
    counts = TokenCounts(violations=[RefusedRow(3, "DATASET_UNUSABLE", "it is bad", "Mend it.")], violation_count=1)
    (violation,) = messages.statistics(counts, 8).violations
    assert (violation.line, violation.reason, violation.message, violation.hint) == (
        3,
        "DATASET_UNUSABLE",
        "it is bad",
        "Mend it.",
    )


def test_an_overlap_is_a_message():
    said = json.loads(messages.as_line(messages.overlap(Overlap(2, 1, [4, 9]))))
    assert said == {"same_input_count": "2", "same_row_count": "1", "rows": ["4", "9"]}


@given(st.lists(st.sampled_from("abcd"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_rows_of_both_are_found_by_content(rows, against):
    def numbered(texts):
        return enumerate(({"text": text} for text in texts), start=1)

    overlap = count_overlap(numbered(rows), numbered(against))
    shared = [number for number, text in enumerate(rows, 1) if text in against]
    assert (overlap.same_row_count, overlap.same_input_count, overlap.rows) == (len(shared), len(shared), shared)


# Limits


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (["gate", "--model", "x"], process_limits.QUICK_CPU_SECONDS),
        (["preview", "--model", "x"], process_limits.QUICK_CPU_SECONDS),
        (["analyze", "--model", "x"], process_limits.LONG_CPU_SECONDS),
        (["overlap", "--against-fd", "3"], process_limits.LONG_CPU_SECONDS),
        (["analyze", "--model", "x", "--cpu-seconds", "90000"], 90_000),
        (["overlap", "--against-fd", "3", "--cpu-seconds", "7"], 7),
    ],
)
def test_a_command_has_a_limit_of_processor_time(command, seconds):
    assert _parser().parse_args(command).cpu_seconds == seconds
