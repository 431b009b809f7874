"""The frozen OpenAPI file says what the routes are, and can be read by machines."""

import json

import jsonschema
import pytest

from services.gateway import (
    batches,
    chat_request,
    completion_request,
    eval_request,
    eval_run_request,
    grader_request,
    job_request,
    response_request,
)
from services.gateway.app import make_app
from services.gateway.peers import connected
from tests.unit.gateway.frozen_contract import DOCUMENT, check, validate_as

METHODS = ("get", "post", "delete")


async def test_every_route_is_in_the_file_and_every_path_of_the_file_is_a_route(settings) -> None:
    async with connected(settings) as peers:
        routes = make_app(settings, peers)._app.routes
    served = {(method, route.path.replace(":path", "")) for route in routes for method in route.methods - {"HEAD"}}
    described = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item}
    assert served == described


async def test_it_is_served_as_json(http) -> None:
    assert (await http.get("/openapi.json")).json() == DOCUMENT


def test_every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() -> None:
    references = {value for key, value in _walk(DOCUMENT) if key == "$ref"}
    for reference in references:
        place = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]
    names = [item[method]["operationId"] for item in DOCUMENT["paths"].values() for method in METHODS if method in item]
    assert len(set(names)) == len(names)


def test_every_schema_is_a_json_schema() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({"error": {"message": "x", "type": "server_error", "param": None}}, "Error"),
        ({"error": {"message": "", "type": "server_error", "param": None, "code": "x"}}, "Error"),
        ({"object": "list", "data": [{"id": "1"}], "has_more": False, "first_id": None, "last_id": None}, "JobList"),
        ({"id": "file-1", "object": "file"}, "File"),
    ],
)
def test_what_is_not_as_the_file_says_is_found(value: dict, schema: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validate_as(value, schema)


@pytest.mark.parametrize(
    ("schema", "module"),
    [
        ("CreateChatCompletion", chat_request),
        ("CreateCompletion", completion_request),
        ("CreateJob", job_request),
        ("CreateResponse", response_request),
        ("CreateBatch", batches),
        ("RunGrader", grader_request),
        ("CreateEval", eval_request),
        ("CreateEvalRun", eval_run_request),
    ],
)
def test_a_field_is_in_the_file_or_refused_or_ignored(schema: str, module) -> None:
    fields = set(DOCUMENT["components"]["schemas"][schema]["properties"])
    assert not fields & set(module.REFUSED)
    assert fields == {*module._READ, *getattr(module, "_CHECKED", ())}
    assert module.ignored(dict.fromkeys([*fields, *module.REFUSED, "other"])) == ["other"]


def test_an_answer_the_file_does_not_have_is_found() -> None:
    with pytest.raises(AssertionError, match="answers 201"):
        check("POST", "/v1/files", 201, "application/json", "{}")
    with pytest.raises(jsonschema.ValidationError):
        check("GET", "/v1/models", 200, "application/json", json.dumps({"object": "list"}))


def _walk(value):
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield key, inner
        if isinstance(inner, dict | list):
            yield from _walk(inner)
