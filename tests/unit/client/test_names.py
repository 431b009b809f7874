"""People give bare ids or whole names; services are always asked for whole names."""

import pytest

from tunesmith.errors import InvalidArgument
from tunesmith.names import COLLECTIONS, bare_id, model_name, resource_name

UUID = "6f2b8a54-1c1d-4b0e-9b8f-0a1b2c3d4e5f"


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("given", ["1", UUID, "with-dash_and.dot", "ünïcode"])
def test_a_bare_id_gets_its_collection_and_a_whole_name_stays(collection, given):
    name = resource_name(collection, given)
    assert name == f"{collection}/{given}"
    assert resource_name(collection, name) == name
    assert bare_id(name) == given


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("other", COLLECTIONS)
def test_a_name_of_another_collection_is_never_taken_for_one_of_this(collection, other):
    if collection == other:
        assert resource_name(collection, f"{other}/1") == f"{collection}/1"
        return
    with pytest.raises(InvalidArgument) as caught:
        resource_name(collection, f"{other}/1")
    assert caught.value.reason == "NAME_INVALID"


def test_a_refused_name_is_quoted_and_the_accepted_forms_are_said():
    with pytest.raises(InvalidArgument) as caught:
        resource_name("artifacts", "tasks/7")
    assert caught.value.message == "'tasks/7' is not the name of something in artifacts"
    assert caught.value.hint == "Give artifacts/ID or the bare ID."
    assert caught.value.grpc_code == "", "no call was made"


@pytest.mark.parametrize("given", [" tasks/1", "tasks/1\n", "\ttasks/1 "])
def test_blanks_around_a_name_do_not_matter(given):
    assert resource_name("tasks", given) == "tasks/1"


def test_the_collection_is_written_exactly():
    with pytest.raises(InvalidArgument):
        resource_name("baseModels", "basemodels/tiny")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (UUID, f"tasks/{UUID}"),
        (UUID.upper(), f"tasks/{UUID}"),
        (UUID.replace("-", ""), f"tasks/{UUID}"),
        (UUID[:-1], f"baseModels/{UUID[:-1]}"),
        (f"{UUID}@step-40", f"tasks/{UUID}@step-40"),
        ("mine@champion", "models/mine@champion"),
        ("smollm2-135m-instruct", "baseModels/smollm2-135m-instruct"),
        (f"tasks/{UUID}", f"tasks/{UUID}"),
        (f"baseModels/{UUID}", f"baseModels/{UUID}"),
    ],
)
def test_only_a_whole_uuid_is_the_result_of_a_task(given, name):
    assert model_name(given) == name


@pytest.mark.parametrize(("name", "identifier"), [("tasks/1", "1"), ("1", "1"), ("", ""), ("a/b/c", "c")])
def test_the_bare_id_is_the_last_part(name, identifier):
    assert bare_id(name) == identifier
