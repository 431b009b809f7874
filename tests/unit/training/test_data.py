"""Dataset files: what becomes an example, and that every refusal names its row."""

import hashlib
import json
import pathlib

import pytest
from tiny_model import make_tiny_model
from training_examples import example

from services.common.errors import ServiceError
from services.common.rendering import Renderer, digest, render_row
from services.trainer.training.data import Cuts, Dataset, load_dataset
from services.trainer.training.objectives.forms import FORMS
from services.trainer.training.row_numbers import numbers_beside


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return Renderer.from_directory(make_tiny_model(tmp_path_factory.mktemp("model")))


def row(user="q", assistant="a"):
    return json.dumps({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]})


def write(tmp_path, *lines):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def load(path, renderer, limit=512, method="sft"):
    return load_dataset(path, renderer, limit, FORMS[method])


def test_rows_become_the_renderers_tokens_in_the_order_of_the_file(tmp_path, renderer):
    data = load(write(tmp_path, row("one", "1"), row("two", "22"), ""), renderer)
    rendered = [renderer.render(json.loads(line)["messages"]) for line in (row("one", "1"), row("two", "22"))]
    assert [list(example.texts[0].ids) for example in data.examples] == [item.token_ids for item in rendered]
    for found, item in zip(data.examples, rendered, strict=True):
        assert [index in found.texts[0].targets for index in range(len(item.loss_mask))] == item.loss_mask


MESSAGES = [{"role": "user", "content": "q"}]
PAIR = {
    "input": {"messages": MESSAGES},
    "preferred_output": [{"role": "assistant", "content": "good"}],
    "non_preferred_output": [{"role": "assistant", "content": "worse"}],
}
ROWS = {
    "sft": {"messages": [*MESSAGES, {"role": "assistant", "content": "a"}]},
    "cpt": {"text": "plain words"},
    "classification": {"messages": MESSAGES, "label": "greeting"},
    **dict.fromkeys(("dpo", "kto", "orpo"), PAIR),
}


@pytest.mark.parametrize("method", ROWS)
def test_rows_of_each_method_become_what_the_renderer_makes_of_them(tmp_path, renderer, method):
    (found,) = load(write(tmp_path, json.dumps(ROWS[method])), renderer, method=method).examples
    rendered = render_row(renderer, ROWS[method])
    assert [list(text.ids) for text in found.texts] == [item.token_ids for item in rendered]
    assert found.label == ROWS[method].get("label", "")
    assert found.target_count == (1 if found.label else sum(sum(item.loss_mask[1:]) for item in rendered))


OTHERS = [
    (method, other) for method in ROWS for other in ("sft", "dpo", "cpt") if not ROWS[other].keys() >= set(FORMS[method].keys)
]


def test_every_method_has_another_format():
    assert {method for method, _ in OTHERS} == set(ROWS)


@pytest.mark.parametrize(("method", "other"), OTHERS)
def test_a_row_of_another_format_is_refused_with_the_format_and_the_key_it_lacks(tmp_path, renderer, method, other):
    with pytest.raises(ServiceError, match=f'row 1 is no {FORMS[method].name} row: it has no "') as caught:
        load(write(tmp_path, json.dumps(ROWS[other])), renderer, method=method)
    assert caught.value.reason == "DATASET_UNUSABLE"


@pytest.mark.parametrize("method", ROWS)
@pytest.mark.parametrize("limit", [34, 512])
def test_the_fingerprint_is_that_of_every_rows_preview_also_of_cut_and_left_out_rows(tmp_path, renderer, method, limit):
    rows = [ROWS[method], ROWS[method] | ({"text": "x" * 20} if method == "cpt" else {"tools": []})]
    expected = hashlib.sha256(b"".join(bytes.fromhex(digest(render_row(renderer, row))) for row in rows)).hexdigest()
    assert load(write(tmp_path, *map(json.dumps, rows)), renderer, limit, method).rendered_rows_sha256 == expected


@pytest.mark.parametrize("name", ["single_turn.json", "multi_turn.jsonl"])
def test_the_sample_files_have_something_to_learn_in_every_row(tmp_path, renderer, name):
    text = (pathlib.Path(__file__).parents[2] / "corpus" / "datasets" / name).read_text()
    rows = json.loads(text) if name.endswith(".json") else list(map(json.loads, text.splitlines()))
    examples = load(write(tmp_path, *map(json.dumps, rows)), renderer).examples
    assert len(examples) == len(rows) == 2
    assert all(example.target_count > 0 for example in examples)


def test_a_token_takes_four_bytes(tmp_path, renderer):
    data = load(write(tmp_path, row("q" * 4000)), renderer, 8192)
    ids = data.examples[0].texts[0].ids
    assert (ids.itemsize, len(ids) > 4000) == (4, True)


def test_counts():
    data = Dataset((example((5, 6, 7), (2,)), example((5, 6, 7, 8, 9), (2, 3, 4))))
    assert data.lengths == [3, 5]
    assert (data.token_count, data.target_token_count) == (8, 4)
    assert data.count([1]) == (5, 3)
    assert data.count([1, 0]) == (8, 4)
    assert data.take([1, 0]) == [data.examples[1], data.examples[0]]


def test_labels_are_sorted_and_there_once():
    data = Dataset(tuple(example((1, 2), label=label) for label in ("b", "a", "b")))
    assert data.labels == ("a", "b")
    assert data.target_token_count == 3


@pytest.mark.parametrize(
    ("examples", "prefix"),
    [
        ([((1, 2, 3, 4), (3,)), ((1, 2, 9, 4), (3,))], (1, 2)),
        ([((1, 2, 3, 4), (3,)), ((1, 2, 3, 4, 5), (4,))], (1, 2)),
        ([((1, 2, 3, 4), (2, 3)), ((1, 2, 3, 5), (3,))], (1,)),
        ([((1, 2, 3), (1,)), ((1, 2, 3), (2,))], ()),
        ([((1, 2, 3, 4), (3,))], (1, 2)),
        ([((1, 2, 3), (2,)), ((4, 2, 3), (2,))], ()),
    ],
)
def test_the_common_prefix_ends_before_the_first_token_that_differs_or_predicts_a_target(examples, prefix):
    assert tuple(Dataset(tuple(example(*each) for each in examples)).common_prefix) == prefix


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "row 3 is not JSON"),
        (b"\xff\xfe", "row 3 is not JSON"),
        ("[]", "row 3 is not a JSON object"),
        ("7", "row 3 is not a JSON object"),
        ("[" * 100_000, "row 3 is not JSON"),
        ('{"input": 1}', 'row 3 is no chat row: it has no "messages"'),
        ('{"messages": [1]}', "row 3 is not as a dataset's rows are"),
        ('{"messages": 7}', "row 3 is not as a dataset's rows are"),
    ],
)
def test_a_broken_row_is_named_counting_blank_lines_too(tmp_path, renderer, line, says):
    with pytest.raises(ServiceError) as caught:
        load(write(tmp_path, row(), "", line), renderer)
    assert caught.value.reason == "DATASET_UNUSABLE"
    assert says in caught.value.message
    assert caught.value.metadata == {"row": "3"}


@pytest.mark.parametrize("label", ["", None, True, 1.5, ["x"]])
def test_a_label_that_is_neither_a_text_nor_an_integer_is_refused(tmp_path, renderer, label):
    with pytest.raises(ServiceError, match='row 1 has a "label" that is neither a text nor an integer'):
        load(write(tmp_path, json.dumps({"messages": MESSAGES, "label": label})), renderer, method="classification")


def test_integers_are_labels_as_the_dataset_check_has_it(tmp_path, renderer):
    rows = [json.dumps({"messages": MESSAGES, "label": label}) for label in (0, 1, "1", -2)]
    data = load(write(tmp_path, *rows), renderer, method="classification")
    assert [example.label for example in data.examples] == ["0", "1", "1", "-2"]
    assert data.labels == ("-2", "0", "1")


def test_a_row_the_template_refuses_is_named(tmp_path):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    strict = Renderer.from_directory(make_tiny_model(tmp_path / "model", chat_template=template))
    with pytest.raises(ServiceError, match=r"row 1: .*no system role") as caught:
        load(write(tmp_path, '{"messages": [{"role": "system", "content": "x"}]}'), strict)
    assert caught.value.reason == "DATASET_UNUSABLE"
    assert caught.value.metadata == {"row": "1"}


def test_an_empty_file_is_refused(tmp_path, renderer):
    with pytest.raises(ServiceError, match=r"train\.jsonl has no rows"):
        load(write(tmp_path, "", ""), renderer)


def test_an_example_of_exactly_the_limit_is_whole_and_a_longer_one_loses_its_end(tmp_path, renderer):
    path = write(tmp_path, row("q", "a" * 100))
    (whole,) = load(path, renderer).examples
    length = whole.token_count
    assert load(path, renderer, length).cuts == Cuts()
    cut = load(path, renderer, length - 50)
    assert cut.cuts.cut_count == 1
    assert cut.examples[0].texts[0].ids == whole.texts[0].ids[: length - 50]
    assert cut.examples[0].texts[0].targets == whole.texts[0].targets[: len(cut.examples[0].texts[0].targets)]
    assert max(cut.examples[0].texts[0].targets) == length - 51


def test_rows_whose_answers_are_cut_away_are_left_out_counted_and_named(tmp_path, renderer):
    data = load(write(tmp_path, row(), row("q" * 300), "", row("q" * 300), row("q", "a" * 100)), renderer, 60)
    assert len(data.examples) == 2
    assert data.cuts.cut_count == 3
    assert list(data.cuts.left_out) == [2, 4]
    said = data.cuts.describe(60)
    assert "3 rows were cut to max_seq_length 60" in said
    assert "2 rows with nothing left to learn were left out: 2, 4" in said


def test_many_left_out_rows_are_named_by_the_first(tmp_path, renderer):
    data = load(write(tmp_path, row(), *(row("q" * 300) for _ in range(12))), renderer, 60)
    assert data.cuts.describe(60).endswith("2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …")


def test_a_pair_of_which_one_side_is_cut_away_is_left_out(tmp_path, renderer):
    long = PAIR | {"non_preferred_output": [*({"role": "user", "content": "x" * 300},), {"role": "assistant", "content": "y"}]}
    data = load(write(tmp_path, json.dumps(PAIR), json.dumps(long)), renderer, 100, "dpo")
    assert (len(data.examples), list(data.cuts.left_out)) == (1, [2])


def test_rows_without_an_assistant_message_are_left_out_while_others_train(tmp_path, renderer):
    silent = '{"messages": [{"role": "user", "content": "hello"}]}'
    data = load(write(tmp_path, row(), silent), renderer)
    assert (len(data.examples), list(data.cuts.left_out), data.cuts.cut_count) == (1, [2], 0)


def test_only_when_nothing_at_all_is_left_to_learn_the_task_fails(tmp_path, renderer):
    silent = '{"messages": [{"role": "user", "content": "hello"}]}'
    with pytest.raises(ServiceError, match="none of the 2 rows has a token that carries loss") as caught:
        load(write(tmp_path, silent, silent), renderer)
    assert caught.value.reason == "NO_TRAINABLE_TOKENS"
    with pytest.raises(ServiceError, match="1 of them were cut to max_seq_length 20 first") as caught:
        load(write(tmp_path, row("q" * 300)), renderer, 20)
    assert caught.value.reason == "NO_TRAINABLE_TOKENS"
    assert "max_seq_length" in caught.value.hint


def test_every_example_knows_its_row_also_when_the_file_was_composed(tmp_path, renderer):
    path = write(tmp_path, *(row("hello", f"answer {number}") for number in range(3)))
    assert [example.row for example in load(path, renderer).examples] == [1, 2, 3]
    numbers_beside(path).write_text("7\n7\n9\n")
    assert [example.row for example in load(path, renderer).examples] == [7, 7, 9]
