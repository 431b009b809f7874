"""Dataset files: what becomes an example, and that every refusal names its row."""

import json

import pytest
from tiny_model import make_tiny_model

from services.common.errors import ServiceError
from services.common.rendering import Renderer
from services.trainer.training.data import Dataset, Example, load_dataset


@pytest.fixture(scope="module")
def renderer(tmp_path_factory):
    return Renderer.from_directory(make_tiny_model(tmp_path_factory.mktemp("model")))


def row(user="q", assistant="a"):
    return json.dumps({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]})


def write(tmp_path, *lines):
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\n".join(line.encode() if isinstance(line, str) else line for line in lines))
    return path


def test_rows_become_the_renderers_tokens_in_the_order_of_the_file(tmp_path, renderer):
    data = load_dataset(write(tmp_path, row("one", "1"), row("two", "22"), ""), renderer, 512)
    rendered = [renderer.render(json.loads(line)["messages"]) for line in (row("one", "1"), row("two", "22"))]
    assert [list(example.token_ids) for example in data.examples] == [item.token_ids for item in rendered]
    for example, item in zip(data.examples, rendered, strict=True):
        assert [index in example.targets for index in range(len(item.loss_mask))] == item.loss_mask


def test_counts():
    data = Dataset((Example((5, 6, 7), (2,)), Example((5, 6, 7, 8, 9), (2, 3, 4))))
    assert data.lengths == [3, 5]
    assert (data.token_count, data.target_token_count) == (8, 4)
    assert data.count([1]) == (5, 3)
    assert data.count([1, 0]) == (8, 4)
    assert data.take([1, 0]) == [data.examples[1], data.examples[0]]


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
    assert Dataset(tuple(Example(*example) for example in examples)).common_prefix == prefix


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "row 3 is not JSON"),
        (b"\xff\xfe", "row 3 is not JSON"),
        ("[]", 'row 3 has no "messages" list'),
        ('{"messages": []}', 'row 3 has no "messages" list'),
        ('{"messages": [1]}', 'row 3 messages[0] needs "role" and "content"'),
        ('{"messages": [{"role": "user"}]}', 'row 3 messages[0] needs "role" and "content"'),
        ('{"messages": [{"role": "user", "content": [1]}]}', 'row 3 messages[0] needs "role" and "content"'),
    ],
)
def test_a_broken_row_is_named_counting_blank_lines_too(tmp_path, renderer, line, says):
    with pytest.raises(ServiceError) as caught:
        load_dataset(write(tmp_path, row(), "", line), renderer, 512)
    assert caught.value.reason == "DATASET_UNUSABLE"
    assert says in caught.value.message
    assert caught.value.metadata == {"row": "3"}


def test_a_row_the_template_refuses_is_named(tmp_path):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    strict = Renderer.from_directory(make_tiny_model(tmp_path / "model", chat_template=template))
    with pytest.raises(ServiceError, match="row 1: the chat template refuses the messages: no system role") as caught:
        load_dataset(write(tmp_path, '{"messages": [{"role": "system", "content": "x"}]}'), strict, 512)
    assert caught.value.reason == "DATASET_UNUSABLE"


def test_an_empty_file_is_refused(tmp_path, renderer):
    with pytest.raises(ServiceError, match=r"train\.jsonl has no rows"):
        load_dataset(write(tmp_path, "", ""), renderer, 512)


def test_an_example_of_exactly_the_limit_fits_and_one_more_token_does_not(tmp_path, renderer):
    path = write(tmp_path, row("q", "a" * 100))
    length = load_dataset(path, renderer, 512).lengths[0]
    assert load_dataset(path, renderer, length).lengths == [length]
    with pytest.raises(ServiceError, match=rf"max_seq_length {length - 1}: row 1 \({length} tokens\)"):
        load_dataset(path, renderer, length - 1)


def test_all_long_rows_are_reported_at_once(tmp_path, renderer):
    path = write(tmp_path, row(), *(row("q", "a" * 100 * n) for n in range(1, 13)))
    with pytest.raises(ServiceError) as caught:
        load_dataset(path, renderer, 50)
    assert caught.value.reason == "EXAMPLE_TOO_LONG"
    assert caught.value.error_class.value == "user"
    assert "12 of 13 examples" in caught.value.message
    assert "row 2 (" in caught.value.message
    assert "row 11 (" in caught.value.message
    assert "and 2 more" in caught.value.message
    assert caught.value.metadata["count"] == "12"
    assert caught.value.metadata["limit"] == "50"


def test_rows_without_an_assistant_message_are_named(tmp_path, renderer):
    silent = '{"messages": [{"role": "user", "content": "hello"}]}'
    with pytest.raises(ServiceError) as caught:
        load_dataset(write(tmp_path, row(), silent, row(), silent), renderer, 512)
    assert caught.value.reason == "NO_TRAINABLE_TOKENS"
    assert "2 rows" in caught.value.message
    assert "2, 4" in caught.value.message
