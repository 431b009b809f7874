"""What is counted over the rows of a dataset, on a tokenizer whose tokens can be counted by hand."""

import pytest
from tiny_model import make_tiny_model

from services.common.rendering import Renderer, render_row
from services.storage.tokens.token_counts import PERCENTILES, Lengths, count_tokens


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return Renderer.from_directory(make_tiny_model(tmp_path_factory.mktemp("tiny")))


def chat(*turns, **fields):
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)], **fields}


def count(renderer, *rows, limit=1000):
    return count_tokens(renderer, enumerate(rows, start=1), limit)


def lengths(*values):
    result = Lengths()
    result.rows.update(values)
    return result


def test_tokens_and_those_with_loss_are_those_of_the_renderings(renderer):
    rows = [chat("q", "abc"), {"text": "xyz"}, chat("q", "a", "q", "b")]
    counts = count(renderer, *rows)
    rendered = [one for row in rows for one in render_row(renderer, row)]
    assert counts.example_count == 3
    assert counts.token_count == sum(len(one.token_ids) for one in rendered)
    assert counts.trainable_token_count == sum(map(sum, (one.loss_mask for one in rendered))) == 4 + 4 + 2 + 2


def test_a_preference_row_is_as_long_as_its_longer_conversation(renderer):
    say = [{"role": "assistant", "content": "a"}]
    row = {"input": chat("q"), "preferred_output": say, "non_preferred_output": [{"role": "assistant", "content": "abc"}]}
    short, long = (len(one.token_ids) for one in render_row(renderer, row))
    counts = count(renderer, row)
    assert list(counts.lengths.rows) == [long]
    assert counts.token_count == short + long


def test_cut_answers_and_rows_that_train_nothing(renderer):
    row = chat("q", "abcdef")
    (one,) = render_row(renderer, row)
    first = one.loss_mask.index(True)
    for limit, expected in [
        (len(one.token_ids), (0, 0, 0)),
        (len(one.token_ids) - 1, (1, 0, 0)),
        (first + 1, (1, 1, 0)),
        (first, (1, 1, 1)),
    ]:
        counts = count(renderer, row, limit=limit)
        assert (counts.over_length_count, counts.truncated_answer_count, counts.untrainable_count) == expected


def test_weight_0_trains_nothing_and_a_label_does(renderer):
    silent = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}]}
    assert count(renderer, silent).untrainable_count == 1
    labeled = count(renderer, chat("q", label="x"))
    assert (labeled.untrainable_count, labeled.trainable_token_count) == (0, 0)


def test_rows_that_cannot_be_rendered_are_named_and_not_counted(renderer):
    bad = {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}
    counts = count(renderer, chat("q", "a"), *[bad] * 150)
    assert (counts.example_count, counts.violation_count, len(counts.violations)) == (1, 150, 100)
    assert counts.violations[0].number == 2
    assert counts.violations[0].reason == "DATASET_UNUSABLE"
    assert counts.violations[0].message.startswith("row 2: tool_calls: ")
    assert counts.violations[0].hint


@pytest.mark.parametrize("row", [{}, {"messages": 1}, {"messages": [1]}, {"text": 1}, {"input": {}}, {"messages": [{}]}])
def test_rows_of_no_format_are_refused_like_others(renderer, row):
    counts = count(renderer, row)
    assert (counts.example_count, counts.violation_count) == (0, 1)
    assert "row 1" in counts.violations[0].message


def test_no_rows(renderer):
    counts = count(renderer)
    assert (counts.lengths.mean, counts.lengths.percentiles(), counts.lengths.histogram()) == (0, {}, {})


def test_percentiles_are_by_nearest_rank():
    assert lengths(*range(1, 101)).percentiles() == {p: p for p in PERCENTILES}
    assert lengths(15, 20, 35, 40, 50).percentiles() == {5: 15, 25: 20, 50: 35, 75: 40, 90: 50, 95: 50, 99: 50}
    assert lengths(7).percentiles() == dict.fromkeys(PERCENTILES, 7)


def test_histogram_counts_by_powers_of_two_up_to_and_with_the_bound():
    assert lengths(1, 2, 3, 4, 5, 8, 9, 1000).histogram() == {1: 1, 2: 1, 4: 2, 8: 2, 16: 1, 1024: 1}


def test_mean():
    assert lengths(1, 2, 2, 5).mean == 2.5
