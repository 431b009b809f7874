"""Evals are kept as they are given, once everything in them can be graded by."""

import json

import pytest

from services.common.grading.conversion import graders_from_proto
from services.gateway.eval_criteria import Criteria
from services.gateway.parameter_names import openai_name
from services.storage.checking.example import Format
from services.storage.checking.row import read_row
from tests.unit.gateway.eval_values import ALIKE, CONFIG, EVALS, ITEMS, JUDGE, LABEL, MULTI, SAME, an_eval, made_eval

FILES = "/v1/files"
INVALID, UNSUPPORTED = "invalid_field", "unsupported_parameter"
ALL = [SAME, ALIKE, JUDGE, MULTI, LABEL]


async def test_an_eval_is_told_as_it_was_given(http, platform) -> None:
    made = await made_eval(http, testing_criteria=ALL, metadata={"team": "a"})
    assert made["id"].startswith("eval_")
    assert (made["name"], made["testing_criteria"], made["metadata"]) == ("towns", ALL, {"team": "a"})
    schema = {"type": "object", "properties": {"item": CONFIG["item_schema"]}, "required": ["item"]}
    assert made["data_source_config"] == {"type": "custom", "schema": schema}
    assert (await http.get(f"{EVALS}/{made['id']}")).json() == made
    (kept, _) = next(iter(platform.tasks.evals.values()))
    assert (json.loads(kept.data_source_config), dict(kept.labels)) == (CONFIG, {"team": "a"})


async def test_the_schema_of_samples_is_told_when_it_was_asked_for(http) -> None:
    made = await made_eval(http, data_source_config={**CONFIG, "include_sample_schema": True})
    schema = made["data_source_config"]["schema"]
    assert schema["required"] == ["item", "sample"]
    assert schema["properties"]["sample"]["required"] == ["output_text"]


async def test_an_eval_needs_no_name(http) -> None:
    assert (await made_eval(http, name=None))["name"] == "Eval"


async def test_a_repeat_under_one_key_is_one_eval(http) -> None:
    first, second, third = [
        (await http.post(EVALS, json=an_eval(), headers={"idempotency-key": key})).json()["id"] for key in ("k", "k", "l")
    ]
    assert first == second != third


async def test_what_is_not_read_is_named_in_a_header(http) -> None:
    answer = await http.post(EVALS, json=an_eval(share_with_openai=True))
    assert answer.headers["x-tunesmith-ignored"] == "share_with_openai"


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"data_source_config": None}, "data_source_config", INVALID),
        ({"data_source_config": {"type": "custom"}}, "data_source_config.item_schema", INVALID),
        (
            {"data_source_config": {"type": "custom", "item_schema": {"type": "objekt"}}},
            "data_source_config.item_schema.type",
            INVALID,
        ),
        (
            {"data_source_config": {"type": "custom", "item_schema": {"patternProperties": {"a": {}}}}},
            "data_source_config.item_schema",
            UNSUPPORTED,
        ),
        ({"data_source_config": {"type": "logs"}}, "data_source_config.type", UNSUPPORTED),
        ({"data_source_config": {"type": "stored_completions"}}, "data_source_config.type", UNSUPPORTED),
        (
            {"data_source_config": {**CONFIG, "include_sample_schema": 1}},
            "data_source_config.include_sample_schema",
            INVALID,
        ),
        ({"testing_criteria": []}, "testing_criteria", INVALID),
        ({"testing_criteria": ["x"]}, "testing_criteria[0]", INVALID),
        ({"testing_criteria": [SAME] * 17}, "testing_criteria", INVALID),
        ({"testing_criteria": [SAME, {**SAME, "name": ""}]}, "testing_criteria[1].name", INVALID),
        ({"testing_criteria": [{**SAME, "operation": "is"}]}, "testing_criteria[0].operation", INVALID),
        ({"testing_criteria": [{**SAME, "reference": "{{answer}}"}]}, "testing_criteria[0].reference", INVALID),
        (
            {"testing_criteria": [{**ALIKE, "evaluation_metric": "cosine"}]},
            "testing_criteria[0].evaluation_metric",
            INVALID,
        ),
        ({"testing_criteria": [{**ALIKE, "pass_threshold": None}]}, "testing_criteria[0].pass_threshold", INVALID),
        ({"testing_criteria": [{**ALIKE, "pass_threshold": 2}]}, "testing_criteria[0].pass_threshold", INVALID),
        ({"testing_criteria": [{**MULTI, "pass_threshold": None}]}, "testing_criteria[0].pass_threshold", INVALID),
        ({"testing_criteria": [{**MULTI, "calculate_output": "x"}]}, "testing_criteria[0].calculate_output", INVALID),
        (
            {"testing_criteria": [{"type": "python", "name": "p", "source": "1"}]},
            "testing_criteria[0].type",
            UNSUPPORTED,
        ),
        ({"testing_criteria": [{**LABEL, "labels": ["town"]}]}, "testing_criteria[0].labels", INVALID),
        ({"testing_criteria": [{**LABEL, "passing_labels": ["x"]}]}, "testing_criteria[0].passing_labels[0]", INVALID),
        ({"metadata": {"k": 1}}, "metadata", INVALID),
        ({"name": 7}, "name", INVALID),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_cannot_be_kept_is_refused_by_name(http, platform, changes: dict, param: str, code: str) -> None:
    answer = await http.post(EVALS, json=an_eval(**changes))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert platform.tasks.evals == {}


async def test_name_and_metadata_change_alone(http) -> None:
    made = await made_eval(http, metadata={"a": "1"})
    path = f"{EVALS}/{made['id']}"
    assert (await http.post(path, json={"name": "cities"})).json() == {**made, "name": "cities"}
    changed = (await http.post(path, json={"metadata": {"b": "2"}})).json()
    assert (changed["name"], changed["metadata"]) == ("cities", {"b": "2"})
    assert (await http.post(path, json={})).json() == changed
    assert (await http.post(path, json={"name": 7})).json()["error"]["param"] == "name"


async def test_a_deleted_eval_is_gone(http) -> None:
    made = await made_eval(http)
    path = f"{EVALS}/{made['id']}"
    assert (await http.delete(path)).json() == {"object": "eval.deleted", "deleted": True, "eval_id": made["id"]}
    for attempt in (http.get(path), http.delete(path), http.post(path, json={"name": "x"}), http.get(f"{path}/runs")):
        answer = await attempt
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "eval_not_found")


@pytest.mark.parametrize("identifier", ["eval_x", "none", f"evalrun_{'0' * 32}"])
async def test_what_is_no_id_is_not_found(http, identifier: str) -> None:
    answer = await http.get(f"{EVALS}/{identifier}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "eval_not_found")


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_follow_on_one_another(http, order: str) -> None:
    made = [(await made_eval(http, name=f"e{number}"))["id"] for number in range(5)]
    found, after = [], {}
    while True:
        page = (await http.get(EVALS, params={"limit": 2, "order": order, **after})).json()
        found += [each["id"] for each in page["data"]]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break
    assert found == (made if order == "asc" else made[::-1])


async def test_evals_are_ordered_by_their_last_change_when_asked(http) -> None:
    first, second = await made_eval(http), await made_eval(http)
    await http.post(f"{EVALS}/{first['id']}", json={"name": "changed"})
    for by, expected in (("created_at", [first, second]), ("updated_at", [second, first])):
        page = (await http.get(EVALS, params={"order_by": by})).json()
        assert [each["id"] for each in page["data"]] == [each["id"] for each in expected]


@pytest.mark.parametrize(
    ("query", "param"),
    [({"after": f"eval_{'0' * 32}"}, "after"), ({"limit": 0}, "limit"), ({"limit": 101}, "limit"), ({"order": "up"}, "order")],
    ids=["after", "none", "many", "order"],
)
async def test_a_bad_page_is_refused(http, query: dict, param: str) -> None:
    answer = await http.get(EVALS, params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("eval.display_name", "name"),
        ("eval.testing_criteria", "testing_criteria"),
        ("task.spec.evaluation.models[0]", "data_source.model"),
        ("task.spec.evaluation.dataset", "data_source.source"),
        ("task.spec.evaluation.data_source", "data_source"),
    ],
)
def test_what_the_task_manager_refuses_is_named_as_the_caller_named_it(field: str, name: str) -> None:
    assert openai_name(field) == name


def test_a_grader_of_a_run_finds_the_item_under_its_own_key() -> None:
    graders = {grader.name: grader for grader in Criteria(ALL).graders()}
    assert list(graders) == ["c0", "c1", "c2", "c3", "c4"]
    assert graders["c0"].string_check.reference == "{{item.item.answer}}"
    assert graders["c1"].text_similarity.input == "{{ sample.output_text }}"
    assert graders["c1"].text_similarity.reference == "{{item.item.answer }}"
    judge = graders["c2"].score_model
    assert [(turn.role, turn.content) for turn in judge.input] == [
        ("system", "Rate."),
        ("user", "{{item.item.town}}: {{sample.output_text}}"),
    ]
    assert graders["c3"].multi.graders[0].string_check.reference == "{{item.item.answer}}"
    assert graders["c4"].score_model.input[0].content == "Is {{sample.output_text}} where {{item.item.town}} is?"
    assert len(graders_from_proto(graders.values())) == 5


@pytest.mark.parametrize(
    ("changes", "threshold"),
    [({}, 5.0), ({"range": None}, 0.5), ({"range": [2, 4]}, 3.0), ({"pass_threshold": 7}, 7.0), ({"pass_threshold": 0}, 0.0)],
    ids=["range", "default", "other", "given", "zero"],
)
def test_a_judge_without_a_threshold_has_the_middle_of_its_range(changes: dict, threshold: float) -> None:
    assert Criteria([{**JUDGE, **changes}]).scales()["c0"].pass_threshold == threshold


def test_a_judge_that_says_a_label_passes_with_1() -> None:
    (grader,) = Criteria([LABEL]).graders()
    assert not grader.score_model.HasField("pass_threshold")
    assert Criteria([LABEL]).scales()["c0"].pass_threshold == 1.0


@pytest.mark.parametrize(
    ("criteria", "known"),
    [
        ([SAME], "{{item.answer}}"),
        ([JUDGE, ALIKE], "{{ item.answer }}"),
        ([{**SAME, "input": "{{item.answer}}", "reference": "{{sample.output_text}}"}], "{{item.answer}}"),
        ([{**SAME, "input": "{{item.town}}"}], ""),
        ([{**SAME, "reference": "{{sample.output_text}}"}], ""),
        ([JUDGE], ""),
    ],
    ids=["check", "similarity", "turned", "no-sample", "only-sample", "judge"],
)
def test_the_known_answer_is_what_answers_are_compared_with(criteria: list[dict], known: str) -> None:
    assert Criteria(criteria).known_answer() == known


@pytest.mark.parametrize(("criteria", "asks"), [([SAME], True), ([JUDGE], True), ([{**SAME, "input": "x"}], False)])
def test_whether_an_answer_is_needed_is_seen_from_the_references(criteria: list[dict], asks: bool) -> None:
    assert Criteria(criteria).ask_for_samples() is asks


def upload(http, *lines: dict | str, purpose: str = "evals"):
    body = "".join((line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)) + "\n" for line in lines)
    return http.post(FILES, files={"file": ("items.jsonl", body.encode())}, data={"purpose": purpose})


async def test_a_file_of_items_comes_back_as_it_was_uploaded(http, platform) -> None:
    given = [*ITEMS, {"item": {"ä": 1}, "sample": {"output_text": "x", "model": "y"}}]
    file = (await upload(http, *given)).json()
    assert (file["purpose"], file["filename"]) == ("evals", "items.jsonl")
    content = (await http.get(f"{FILES}/{file['id']}/content")).text
    assert [json.loads(line) for line in content.splitlines()] == given
    (header, stored) = platform.datasets.uploads[0]
    assert header.display_name == "openai.evals/items.jsonl"
    assert [read_row(line, None).format for line in stored.splitlines()] == [Format.TEXT] * 3
    for purpose, count in (("evals", 1), ("batch", 0), ("fine-tune", 0), (None, 1)):
        listed = await http.get(FILES, params={"purpose": purpose} if purpose else {})
        assert len(listed.json()["data"]) == count


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("{", "item"),
        ("[]", "item"),
        ({"sample": {}}, "item"),
        ({"item": {}}, "item"),
        ({"item": "x"}, "item"),
        ({"item": {"a": 1}, "sample": "x"}, "sample"),
    ],
    ids=["json", "array", "none", "empty", "text", "sample"],
)
async def test_a_bad_item_is_told_by_its_line(http, platform, line: dict | str, place: str) -> None:
    answer = await upload(http, ITEMS[0], "", line)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, f"line 3: {place}", "dataset_invalid")
    assert platform.datasets.uploads == []


async def test_a_file_without_items_is_refused(http) -> None:
    assert (await upload(http, "", " ")).json()["error"]["param"] == "file"


async def test_parts_are_no_way_to_send_items(http) -> None:
    answer = await http.post("/v1/uploads", json={"filename": "x", "purpose": "evals", "bytes": 5})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")


@pytest.mark.parametrize(("purpose", "status"), [("evals", 200), ("batch", 400), ("fine-tune", 400)])
async def test_the_purpose_may_come_behind_the_items(http, purpose: str, status: int) -> None:
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
    tail = b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode() + b"\r\n--b--\r\n"
    body = head + json.dumps(ITEMS[0]).encode() + b"\n" + tail
    answer = await http.post(FILES, content=body, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == status
    assert status == 200 or answer.json()["error"]["param"] == "purpose"
