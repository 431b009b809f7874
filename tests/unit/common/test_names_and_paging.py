"""Resource names and page tokens refuse what they did not make, naming the field."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.common.names import base_model_id, registered_model_id, registered_name, resource_uuid
from services.common.paging import MAX_PAGE_SIZE, decode_token, encode_token, page_size

ID = uuid.UUID("5e2f1c80-0000-4000-8000-000000000001")


@pytest.mark.parametrize("name", [f"tasks/{ID}", str(ID), str(ID).upper()])
def test_a_uuid_is_found_in_full_and_bare_names(name: str) -> None:
    assert resource_uuid(name, "tasks") == ID


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "is required"),
        (f"datasets/{ID}", "names another kind of resource"),
        ("tasks/", "is not a name of the form"),
        ("tasks/../../etc/passwd", "is not a name of the form"),
        ("tasks/" + "x" * 500, "is not a name of the form"),
    ],
)
def test_a_wrong_name_is_refused_with_field_and_form(name: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        resource_uuid(name, "tasks", "task.spec.thing")
    assert caught.value.reason == "INVALID_NAME"
    assert caught.value.violations[0].field == "task.spec.thing"
    assert words in caught.value.violations[0].description
    assert len(caught.value.message) < 250


@pytest.mark.parametrize("name", ["baseModels/smollm2-135m-instruct", "a", "a1.b_c-9"])
def test_base_model_ids(name: str) -> None:
    assert base_model_id(name) == name.removeprefix("baseModels/")


@pytest.mark.parametrize("name", ["baseModels/", "-a", "a-", "A", "a b", "a/b", "..", "a" * 65, "tasks/a"])
def test_bad_base_model_ids_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        base_model_id(name)


def test_what_an_id_may_hold_is_told() -> None:
    for parse in (base_model_id, registered_name, registered_model_id):
        with pytest.raises(InvalidArgument, match="at most 64 of a-z"):
            parse("models/My Model" if parse is not base_model_id else "My Model")


@pytest.mark.parametrize("name", ["models/m", "models/m@0", "models/m@7", "models/m@best"])
def test_a_registered_name_reads_as_it_was_written(name: str) -> None:
    assert str(registered_name(name)) == name


@given(st.text())
def test_no_text_crashes_the_name_parsers(text: str) -> None:
    for parse in (lambda: resource_uuid(text, "tasks"), lambda: base_model_id(text)):
        try:
            parse()
        except InvalidArgument as error:
            assert error.violations  # noqa: PT017  # either outcome is right; a refusal must name its field


def test_page_sizes_have_default_cap_and_floor() -> None:
    assert page_size(0) == 50
    assert page_size(0, default=100) == 100
    assert page_size(7) == 7
    assert page_size(10**9) == MAX_PAGE_SIZE
    with pytest.raises(InvalidArgument, match="page_size"):
        page_size(-1)


@given(st.lists(st.text()), st.text())
def test_a_token_gives_its_position_back(position: list[str], filter_text: str) -> None:
    assert decode_token(encode_token(position, filter_text), filter_text) == tuple(position)


def test_no_token_is_the_first_page() -> None:
    assert decode_token("", "anything") is None


def test_a_token_of_another_filter_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="another filter"):
        decode_token(encode_token(["1"], "states=1"), "states=2")


@given(st.text(min_size=1))
def test_a_made_up_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_token(token, "")
    assert caught.value.reason == "INVALID_PAGE_TOKEN"
