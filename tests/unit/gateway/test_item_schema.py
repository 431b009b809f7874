"""Items against the schema of their eval: what fits, what is named when it does not, and schemas that mean no good."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import InvalidArgument
from services.gateway.item_schema import ItemSchema

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/town.json",
    "type": "object",
    "properties": {
        "town": {"type": "string", "pattern": "^[A-Z]", "maxLength": 20},
        "people": {"$ref": "#/$defs/count"},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "rivers": {
            "type": "array",
            "items": {"type": "object", "properties": {"km": {"$ref": "#/$defs/count"}}, "required": ["name"]},
        },
    },
    "required": ["town"],
    "additionalProperties": False,
    "$defs": {"count": {"type": "integer", "minimum": 1}},
}


def refusal(schema: dict, item: dict) -> tuple[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        ItemSchema(schema).check(item)
    (violation,) = caught.value.violations
    return violation.field, violation.description


@pytest.mark.parametrize(
    "item",
    [
        {"town": "Rome"},
        {"town": "Rome", "people": 3, "tags": ["a", "b"], "rivers": [{"name": "Tiber", "km": 405}]},
        {"town": "Rome", "tags": []},
    ],
    ids=["least", "all", "empty"],
)
def test_an_item_that_fits_passes_again_and_again(item: dict) -> None:
    schema = ItemSchema(SCHEMA)
    for _ in range(3):
        schema.check(item)


@pytest.mark.parametrize(
    ("item", "place", "words"),
    [
        ({}, "item.town", "is required"),
        ({"town": 7}, "item.town", "7 is not of type 'string'"),
        ({"town": "rome"}, "item.town", "'rome' does not match '^[A-Z]'"),
        ({"town": "R" * 21}, "item.town", "too long"),
        ({"town": "Rome", "people": 0}, "item.people", "less than the minimum"),
        ({"town": "Rome", "people": 1.5}, "item.people", "not of type 'integer'"),
        ({"town": "Rome", "tags": ["a", "b", 3]}, "item.tags[2]", "not of type 'string'"),
        ({"town": "Rome", "tags": ["a", "b", "a"]}, "item.tags", "equal elements"),
        ({"town": "Rome", "rivers": [{"name": "a"}, {"km": 3}]}, "item.rivers[1].name", "is required"),
        ({"town": "Rome", "rivers": [{"name": "a", "km": "3"}]}, "item.rivers[0].km", "not of type 'integer'"),
        ({"town": "Rome", "land": "Italy"}, "item", "'land' was unexpected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_told_by_its_place(item: dict, place: str, words: str) -> None:
    field, description = refusal(SCHEMA, item)
    assert (field, words in description) == (place, True), description


def test_a_long_value_is_not_told_in_full() -> None:
    _, description = refusal({"properties": {"a": {"type": "integer"}}}, {"a": "x" * 10_000})
    assert len(description) < 300


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ([1, True], True),
        ([1, 1.0], False),
        ([0, False, None, "", [], {}], True),
        ([{"a": 1, "b": [2]}, {"b": [2], "a": 1}], False),
        ([{"a": 1}, {"a": True}], True),
        ([["a", "b"], ["b", "a"]], True),
        ([[1], [1]], False),
    ],
)
def test_elements_are_equal_as_json_has_it(values: list, fits: bool) -> None:
    schema = {"properties": {"a": {"uniqueItems": True}}}
    if fits:
        ItemSchema(schema).check({"a": values})
    else:
        assert refusal(schema, {"a": values})[0] == "item.a"


@pytest.mark.parametrize(
    ("schema", "place", "words"),
    [
        ({"type": "objekt"}, ".type", "'objekt'"),
        ({"properties": {"a": {"minLength": "x"}}}, ".properties.a.minLength", "not of type 'integer'"),
        ({"required": "town"}, ".required", "not of type 'array'"),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, "", "no regular expression of RE2"),
        ({"properties": {"a": {"pattern": "("}}}, "", "no regular expression of RE2"),
        ({"patternProperties": {"a": {}}}, "", "patternProperties is not supported"),
        ({"anyOf": [{"unevaluatedProperties": False}]}, "", "unevaluatedProperties is not supported"),
        ({"items": {"unevaluatedItems": False}}, "", "unevaluatedItems is not supported"),
        ({"not": {"$schema": "http://json-schema.org/draft-04/schema#"}}, "", "$schema is not supported"),
        ({"$defs": {"a": {"$id": "x"}}}, "", "$id is not supported"),
        ({"properties": {"a": {"$ref": "https://example.com/schema.json"}}}, "", "leads to no schema"),
        ({"properties": {"a": {"$ref": "file:///etc/passwd"}}}, "", "leads to no schema"),
        ({"properties": {"a": {"$ref": "#/$defs/none"}}}, "", "leads to no schema"),
        ({"properties": {"a": {"$ref": "#/examples/0"}}, "examples": [{"patternProperties": {"(a+)+$": {}}}]}, "", "no schema"),
        ({"properties": {"a": {"$ref": "#/properties"}}}, "", "leads to no schema"),
        ({"description": "x" * 17_000}, "", "more than 16,384"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_schema_that_nothing_can_be_checked_against_is_refused(schema: dict, place: str, words: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ItemSchema(schema)
    (violation,) = caught.value.violations
    assert (violation.field, words in violation.description) == (f"data_source_config.item_schema{place}", True), violation


def test_names_of_keys_are_no_keywords() -> None:
    ItemSchema({"properties": {"patternProperties": {"type": "string"}, "$id": True, "$ref": {"type": "string"}}}).check(
        {"patternProperties": "x", "$id": 1, "$ref": "y"}
    )


def test_references_may_lead_to_true_and_false() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/any"}, "b": {"$ref": "#/$defs/none"}}, "$defs": {"any": True, "none": False}}
    ItemSchema(schema).check({"a": 1})
    assert refusal(schema, {"b": 1})[0] == "item.b"


@pytest.mark.parametrize(
    ("schema", "item"),
    [
        ({"$ref": "#"}, {}),
        (
            {
                "$ref": "#/$defs/x0",
                "$defs": {f"x{n}": {"anyOf": [{"$ref": f"#/$defs/x{n + 1}"}] * 2} for n in range(40)} | {"x40": {"type": "null"}},
            },
            {},
        ),
        ({"properties": {"a": {"items": {"allOf": [{}] * 1000}}}}, {"a": [1] * 1000}),
        ({"properties": {"a": {"allOf": [{"pattern": "b$"}] * 400}}}, {"a": "a" * 1_000_000 + "b"}),
        ({"properties": {"a": {"allOf": [{"uniqueItems": True}] * 400}}}, {"a": list(range(10_000))}),
        ({"properties": {"a": {"anyOf": [{"type": "null"}] * 600}}}, {"a": "x" * 4_000_000}),
    ],
    ids=["itself", "2 to the 40th", "many schemas", "many patterns", "many comparisons", "many long words"],
)
def test_what_would_take_for_ever_is_given_up(schema: dict, item: dict) -> None:
    assert refusal(schema, item) == ("item", "takes too long to be checked against the item_schema of the eval")


def test_a_pattern_that_stops_others_is_harmless() -> None:
    assert refusal({"properties": {"a": {"pattern": "^(a+)+$"}}}, {"a": "a" * 100_000 + "b"})[0] == "item.a"


def test_a_tree_may_be_described_by_itself() -> None:
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["name"]}
    ItemSchema(tree).check({"name": "a", "children": [{"name": "b"}, {"name": "c", "children": [{"name": "d"}]}]})
    place, _ = refusal(tree, {"name": "a", "children": [{"name": "b"}, {"name": "c", "children": [{}]}]})
    assert place == "item.children[1].children[0].name"


@pytest.mark.parametrize("number", [10**400, float("nan"), float("inf")], ids=["long", "nan", "infinite"])
def test_a_number_that_cannot_be_divided_is_refused(number: float) -> None:
    assert refusal({"properties": {"a": {"multipleOf": 0.1}}}, {"a": number})[0].startswith("item")


def test_a_big_item_fits() -> None:
    keys = "abcdefghij"
    row = {"type": "object", "properties": {key: {"type": "string"} for key in keys}, "required": list(keys)}
    ItemSchema({"properties": {"rows": {"items": row}}}).check({"rows": [dict.fromkeys(keys, "x")] * 2000})


_KEYWORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "anyOf",
        "not",
        "$ref",
        "pattern",
        "enum",
        "required",
        "$defs",
        "uniqueItems",
        "patternProperties",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["object", "string", "#", "#/$defs/a", "a", "("]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYWORDS | st.sampled_from("ab"), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(
    schema=st.dictionaries(_KEYWORDS, _JSON, min_size=1, max_size=4),
    item=st.dictionaries(st.sampled_from("ab"), _JSON, max_size=2),
)
def test_any_schema_is_refused_or_answers(schema: dict, item: dict) -> None:
    with contextlib.suppress(InvalidArgument):
        ItemSchema(schema).check(item)
