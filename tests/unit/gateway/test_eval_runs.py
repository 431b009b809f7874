"""A run of an eval is an evaluation task; what comes of it is told by the code that evaluates, which runs in this process."""

import json
import pathlib

import pytest

from services.common.errors import InvalidArgument, Violation
from services.storage.checking.example import Format
from services.storage.checking.row import read_row
from tests.fake_platform import NOW
from tests.unit.answering.fake_models import FakeModels
from tests.unit.gateway.eval_values import (
    ALIKE,
    CONFIG,
    EVALS,
    ITEMS,
    JUDGE,
    LABEL,
    MULTI,
    PROMPT,
    SAME,
    a_source,
    finished,
    made_eval,
    made_run,
    recorded,
    rows_of,
)
from tests.unit.gateway.test_chat import TASK
from tunesmith.v1.evaluation_pb2 import Evaluation
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_pb2 import Task
from tunesmith.v1.task_spec_pb2 import TaskSpec

TOO_LONG = InvalidArgument(Violation("messages", "too long"), reason="CONTEXT_LENGTH_EXCEEDED")
OF_SAMPLES = "data_source.source.content[0].sample"


def atlas(model: str, messages) -> str:
    """Knows where Paris is; as a judge it gives 8 points to France."""
    text = messages[-1]["content"]
    if model == "loaded/baseModels/judge":
        return "8" if "France" in text else "I do not know"
    return "France" if "Paris" in text else "Spain"


async def test_a_run_is_an_evaluation_over_the_rows_of_its_items(http, platform) -> None:
    kept = await made_eval(http)
    params = {"max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9, "seed": 2**31 + 3}
    run = await made_run(http, kept, a_source(sampling_params=params), name="first", metadata={"team": "a"})
    (asked,) = platform.tasks.created
    evaluation, sampling = asked.task.spec.evaluation, asked.task.spec.evaluation.sampling
    assert (list(evaluation.models), evaluation.answers_in_rows) == (["tiny"], False)
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.seed) == (7, 0.5, 0.9, 3)
    assert [(grader.name, grader.WhichOneof("kind")) for grader in evaluation.graders] == [("c0", "string_check")]
    assert dict(asked.task.labels) == {"team": "a", "openai.eval": kept["id"], "openai.model": "tiny"}
    assert (run["eval_id"], run["name"], run["model"], run["status"]) == (kept["id"], "first", "tiny", "queued")
    assert (run["metadata"], run["error"], run["per_model_usage"]) == ({"team": "a"}, None, [])
    assert run["result_counts"] == {"total": 0, "passed": 0, "failed": 0, "errored": 0}
    assert run["report_url"] == f"http://gateway{EVALS}/{kept['id']}/runs/{run['id']}"
    assert (await http.get(f"{EVALS}/{kept['id']}/runs/{run['id']}")).json() == run


async def test_rows_have_the_question_the_known_answer_and_the_item(http, platform) -> None:
    turns = [
        {"type": "message", "role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Where is "}, {"type": "input_text", "text": "{{ item.town }}?"}],
        },
    ]
    source = a_source(type="responses", input_messages={"type": "template", "template": turns})
    await made_run(http, await made_eval(http), source)
    header, stored = platform.datasets.uploads[0]
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Paris?"}]
    first = {"messages": [*asked, {"role": "assistant", "content": "France"}], "item": ITEMS[0]["item"]}
    assert json.loads(stored.splitlines()[0]) == first
    rows = [read_row(line, None) for line in stored.splitlines()]
    assert [(row.format, row.ending, row.ignored_keys) for row in rows] == [
        (Format.CHAT, "France", ("item",)),
        (Format.CHAT, "Italy", ("item",)),
    ]
    assert (header.display_name, header.lifetime_seconds) == ("openai.evals/towns tiny.jsonl", 30 * 86_400)


async def test_a_run_tells_its_items_as_a_file(http) -> None:
    run = await made_run(http, await made_eval(http))
    file = run["data_source"]["source"]
    assert run["data_source"] == {**a_source(), "source": {"type": "file_id", "id": file["id"]}}
    content = (await http.get(f"/v1/files/{file['id']}/content")).text
    assert [json.loads(line) for line in content.splitlines()] == ITEMS


async def test_items_of_a_file_make_the_same_rows(http, platform) -> None:
    kept = await made_eval(http)
    await made_run(http, kept)
    body = "\n\n".join(json.dumps(item) for item in ITEMS).encode()
    file = (await upload(http, body)).json()["id"]
    run = await made_run(http, kept, a_source(source={"type": "file_id", "id": file}))
    assert run["data_source"]["source"] == {"type": "file_id", "id": file}
    assert rows_of(platform) == rows_of(platform, 0)


async def test_the_items_of_an_earlier_run_can_be_used_again(http, platform) -> None:
    kept = await made_eval(http)
    first = await made_run(http, kept)
    again = a_source(source=first["data_source"]["source"], model="other")
    await made_run(http, kept, again)
    assert rows_of(platform) == rows_of(platform, 0)
    assert list(platform.tasks.created[-1].task.spec.evaluation.models) == ["other"]


async def test_a_conversation_may_stand_in_the_item(http, platform) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    source = {"type": "file_content", "content": [{"item": {"town": "x", "chat": {"turns": turns}}}]}
    asked = {"type": "item_reference", "item_reference": "item.chat.turns"}
    await made_run(http, await made_eval(http), a_source(source=source, input_messages=asked))
    assert rows_of(platform)[0]["messages"] == [*turns, {"role": "assistant", "content": "(none)"}]


async def test_a_sample_beside_an_item_is_none_of_the_model_that_is_asked(http, platform) -> None:
    source = {"type": "file_content", "content": [{**ITEMS[0], "sample": {"output_text": "old"}}]}
    await made_run(http, await made_eval(http), a_source(source=source))
    assert "sample" not in rows_of(platform)[0]


async def test_recorded_answers_are_graded_without_a_model(http, platform) -> None:
    given = {**ITEMS[0], "sample": {"output_text": "france", "model": "elsewhere"}}
    run = await made_run(http, await made_eval(http), recorded(given))
    evaluation = platform.tasks.created[0].task.spec.evaluation
    assert (list(evaluation.models), evaluation.answers_in_rows) == ([], True)
    asked = [{"role": "user", "content": "(none)"}, {"role": "assistant", "content": "France"}]
    assert rows_of(platform) == [{"messages": asked, **given}]
    assert (run["model"], run["name"]) == ("", "towns")


async def test_an_answer_that_no_criterion_refers_to_need_not_be_there(http, platform) -> None:
    kept = await made_eval(http, testing_criteria=[{**SAME, "input": "{{item.town}}", "reference": "Paris"}])
    await made_run(http, kept, recorded(ITEMS[0]))
    assert rows_of(platform)[0]["sample"] == {"output_text": ""}


async def test_a_recorded_answer_may_be_empty(http, platform) -> None:
    await made_run(http, await made_eval(http), recorded({**ITEMS[0], "sample": {"output_text": ""}}))
    assert rows_of(platform)[0]["sample"] == {"output_text": ""}


async def test_a_tuned_model_is_found_by_its_name(http, platform) -> None:
    name = f"ft:tiny:tunesmith::{TASK.removeprefix('tasks/').replace('-', '')}"
    run = await made_run(http, await made_eval(http), a_source(model=name))
    assert run["model"] == name
    assert list(platform.tasks.created[0].task.spec.evaluation.models) == [TASK]


async def test_models_that_grade_are_found_by_their_names(http, platform) -> None:
    name = f"ft:tiny:tunesmith::{TASK.removeprefix('tasks/').replace('-', '')}"
    judge = {**JUDGE, "model": name}
    both = {**MULTI, "graders": {"judge": judge, "same": SAME}, "calculate_output": "judge + same"}
    kept = await made_eval(http, testing_criteria=[judge, both])
    await made_run(http, kept)
    first, second = platform.tasks.created[0].task.spec.evaluation.graders
    assert first.score_model.model == second.multi.graders[0].score_model.model == TASK
    assert kept["testing_criteria"][0]["model"] == name


async def test_a_repeat_under_one_key_has_one_request_id(http, platform) -> None:
    kept = await made_eval(http)
    for _ in range(2):
        await http.post(f"{EVALS}/{kept['id']}/runs", json={"data_source": a_source()}, headers={"idempotency-key": "k"})
    first, second = (created.request_id for created in platform.tasks.created)
    assert first == second != ""


async def test_what_is_not_read_is_named_in_a_header(http) -> None:
    kept = await made_eval(http)
    answer = await http.post(f"{EVALS}/{kept['id']}/runs", json={"data_source": a_source(), "notify": True})
    assert answer.headers["x-tunesmith-ignored"] == "notify"


def upload(http, body: bytes, purpose: str = "evals"):
    return http.post("/v1/files", files={"file": ("x.jsonl", body)}, data={"purpose": purpose})


def a_template(*turns) -> dict:
    return a_source(input_messages={"type": "template", "template": list(turns)})


def of_items(*items) -> dict:
    return a_source(source={"type": "file_content", "content": list(items)})


USER = {"role": "user", "content": "{{item.town}}"}


@pytest.mark.parametrize(
    ("source", "param"),
    [
        (None, "data_source"),
        ({"type": "stored"}, "data_source.type"),
        (a_source(source=None), "data_source.source"),
        (a_source(source={"type": "stored_completions"}), "data_source.source.type"),
        (a_source(source={"type": "file_content"}), "data_source.source.content"),
        (a_source(source={"type": "file_id"}), "data_source.source.id"),
        (a_source(source={"type": "file_id", "id": "file-x"}), "data_source.source.id"),
        (a_source(source={"type": "file_id", "id": f"file-{'0' * 32}"}), "data_source.source.id"),
        (a_source(model=None), "data_source.model"),
        (a_source(model="x" * 513), "data_source.model"),
        (a_source(input_messages=None), "data_source.input_messages"),
        (a_source(input_messages={"type": "other"}), "data_source.input_messages.type"),
        (a_source(input_messages={"type": "item_reference"}), "data_source.input_messages.item_reference"),
        (
            a_source(input_messages={"type": "item_reference", "item_reference": "x"}),
            "data_source.input_messages.item_reference",
        ),
        (
            a_source(input_messages={"type": "item_reference", "item_reference": "sample.output_text"}),
            "data_source.input_messages.item_reference",
        ),
        (a_template(), "data_source.input_messages.template"),
        (a_template("x"), "data_source.input_messages.template[0]"),
        (a_template(USER, {"role": "tool", "content": "x"}), "data_source.input_messages.template[1].role"),
        (a_template({**USER, "content": "{{town}}"}), "data_source.input_messages.template[0].content"),
        (a_template({**USER, "content": "{{ sample.output_text }}"}), "data_source.input_messages.template[0].content"),
        (a_template({**USER, "content": [{"type": "input_image"}]}), "data_source.input_messages.template[0].content[0].type"),
        (a_source(sampling_params={"tools": [{}]}), "data_source.sampling_params.tools"),
        (a_source(sampling_params={"response_format": {"type": "json_object"}}), "data_source.sampling_params.response_format"),
        (a_source(sampling_params={"reasoning_effort": "low"}), "data_source.sampling_params.reasoning_effort"),
        (a_source(sampling_params={"max_completion_tokens": 0}), "data_source.sampling_params.max_completion_tokens"),
        (a_source(sampling_params={"max_completion_tokens": 2**40}), "data_source.sampling_params.max_completion_tokens"),
        (a_source(sampling_params={"max_completions_tokens": 0}), "data_source.sampling_params.max_completions_tokens"),
        (a_source(sampling_params={"temperature": 3}), "data_source.sampling_params.temperature"),
        (a_source(sampling_params={"top_p": 0}), "data_source.sampling_params.top_p"),
        (a_source(sampling_params={"seed": "x"}), "data_source.sampling_params.seed"),
        (of_items("x"), "data_source.source.content[0].item"),
        (of_items(*ITEMS, {"item": {}}), "data_source.source.content[2].item"),
        (of_items({"item": {"answer": "x"}}), "data_source.source.content[0].item.town"),
        (of_items(*ITEMS, {"item": {"town": 3}}), "data_source.source.content[2].item.town"),
        (a_template({**USER, "content": "{{item.lake}}"}), "data_source.source.content[0].item"),
        (a_template(USER, {"role": "assistant", "content": "x"}), "data_source.source.content[0].item"),
        (
            a_source(input_messages={"type": "item_reference", "item_reference": "item.town"}),
            "data_source.source.content[0].item.town",
        ),
        (recorded(ITEMS[0]), f"{OF_SAMPLES}.output_text"),
        (recorded({**ITEMS[0], "sample": {"output_text": 7}}), f"{OF_SAMPLES}.output_text"),
        (recorded({**ITEMS[0], "sample": "x"}), OF_SAMPLES),
    ],
)
async def test_what_no_run_can_be_made_of_is_refused_by_name(http, platform, source: dict | None, param: str) -> None:
    kept = await made_eval(http)
    answer = await http.post(f"{EVALS}/{kept['id']}/runs", json={"data_source": source})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert (platform.tasks.created, platform.datasets.uploads) == ([], [])


BAD_FIELDS = [{"name": 7}, {"name": " "}, {"name": "x" * 129}, {"name": "a\0b"}, {"metadata": {"openai.eval": "x"}}]


@pytest.mark.parametrize("body", BAD_FIELDS, ids=["number", "spaces", "long", "nul", "metadata"])
async def test_a_bad_field_beside_the_source_is_refused(http, platform, body: dict) -> None:
    kept = await made_eval(http)
    answer = await http.post(f"{EVALS}/{kept['id']}/runs", json={"data_source": a_source(), **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(body)))
    assert platform.tasks.created == []


async def test_a_file_of_another_purpose_is_refused_and_a_bad_item_in_a_file_is_counted(http, platform) -> None:
    kept = await made_eval(http)
    body = {"data_source": a_source(source={"type": "file_id", "id": f"file-{'1' * 32}"})}
    rows = (
        await http.post("/v1/files", files={"file": ("x.jsonl", b'{"messages": []}\n')}, data={"purpose": "fine-tune"})
    ).json()
    items = [*ITEMS, {"item": {"answer": "no town"}}]
    file = (await upload(http, "\n".join(json.dumps(item) for item in items).encode())).json()
    for identifier, param in ((rows["id"], "data_source.source.id"), (file["id"], "data_source.source.id: item 3: item.town")):
        body["data_source"]["source"]["id"] = identifier
        answer = await http.post(f"{EVALS}/{kept['id']}/runs", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_a_schema_of_an_earlier_release_is_checked_when_it_is_used(http, platform) -> None:
    kept = await made_eval(http)
    ((stored, _),) = platform.tasks.evals.values()
    stored.data_source_config = json.dumps({"type": "custom", "item_schema": {"type": "objekt"}})
    answer = await http.post(f"{EVALS}/{kept['id']}/runs", json={"data_source": a_source()})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "data_source_config.item_schema.type")


async def test_what_storage_refuses_is_said_of_the_source(http) -> None:
    source = of_items({"item": {"town": "assistent"}})  # the scripted storage takes offence at it
    answer = await http.post(f"{EVALS}/{(await made_eval(http))['id']}/runs", json={"data_source": source})
    assert answer.json()["error"]["param"] == "data_source.source: line 1: messages[1].role"


async def test_neutral_parameters_are_no_reason_to_refuse(http) -> None:
    params = {"tools": [], "response_format": {"type": "text"}, "text": {"format": {"type": "text"}}, "reasoning_effort": None}
    assert await made_run(http, await made_eval(http), a_source(sampling_params=params))


async def test_the_end_of_a_run_tells_what_passed(http, platform, tmp_path: pathlib.Path) -> None:
    judge = {**JUDGE, "model": "baseModels/judge", "pass_threshold": 6}
    kept = await made_eval(http, testing_criteria=[SAME, ALIKE, judge, MULTI])
    items = [*ITEMS, {"item": {"town": "Lyon", "answer": "France"}}, {"item": {"town": "Oslo"}}]
    run = await made_run(http, kept, of_items(*items))
    await finished(platform, tmp_path, FakeModels(atlas, {3: [TOO_LONG]}))
    done = (await http.get(f"{EVALS}/{kept['id']}/runs/{run['id']}")).json()
    assert done["status"] == "completed"
    assert (await http.get(f"{EVALS}/{kept['id']}/runs")).json()["data"] == [done]
    # Paris passes; the judge gives Rome no number; Lyon has no answer; Oslo has no known one.
    assert done["result_counts"] == {"total": 4, "passed": 1, "failed": 0, "errored": 3}
    assert done["per_testing_criteria_results"] == [
        {"testing_criteria": name, "passed": 1, "failed": 3} for name in ("same as known", "alike", "judge", "both")
    ]
    usage = {"model_name": "tiny", "invocation_count": 3, "prompt_tokens": 15, "completion_tokens": 9, "total_tokens": 24}
    assert done["per_model_usage"] == [{**usage, "cached_tokens": 0}]


async def test_a_wrong_answer_fails_and_is_no_error(http, platform, tmp_path: pathlib.Path) -> None:
    kept = await made_eval(http, testing_criteria=[SAME, ALIKE])
    run = await made_run(http, kept)
    await finished(platform, tmp_path, FakeModels(atlas))
    done = (await http.get(f"{EVALS}/{kept['id']}/runs/{run['id']}")).json()
    assert done["result_counts"] == {"total": 2, "passed": 1, "failed": 1, "errored": 0}


async def test_the_end_of_a_run_of_recorded_answers(http, platform, tmp_path: pathlib.Path) -> None:
    kept = await made_eval(http, testing_criteria=[SAME])
    run = await made_run(http, kept, recorded(*({**item, "sample": {"output_text": "It is France."}} for item in ITEMS)))
    models = FakeModels(atlas)
    await finished(platform, tmp_path, models)
    done = (await http.get(f"{EVALS}/{kept['id']}/runs/{run['id']}")).json()
    assert (done["result_counts"]["passed"], done["result_counts"]["failed"], done["per_model_usage"]) == (1, 1, [])
    assert models.asked == []


async def test_labels_let_answers_pass_or_fail(http, platform, tmp_path: pathlib.Path) -> None:
    kept = await made_eval(http, testing_criteria=[{**LABEL, "model": "judge"}])
    run = await made_run(http, kept, recorded(*({**item, "sample": {"output_text": "France"}} for item in ITEMS)))
    await finished(platform, tmp_path, FakeModels(lambda _, messages: "yes" if "Paris" in messages[0]["content"] else "no"))
    path = f"{EVALS}/{kept['id']}/runs/{run['id']}"
    assert (await http.get(path)).json()["result_counts"] == {"total": 2, "passed": 1, "failed": 1, "errored": 0}
    told = [item["results"][0] for item in (await http.get(f"{path}/output_items")).json()["data"]]
    assert [(each["type"], each["score"], each["passed"]) for each in told] == [
        ("label_model", 1, True),
        ("label_model", 0, False),
    ]


@pytest.fixture
def add(platform):
    """Adds the task of a run of an eval in some state."""

    def add(kept: dict, state: Task.State.ValueType = Task.RUNNING, **facts) -> Task:
        spec = TaskSpec(evaluation=Evaluation(models=["tiny"], data_source=json.dumps(a_source())))
        return platform.tasks.add(state=state, spec=spec, labels={"openai.eval": kept["id"], "openai.model": "tiny"}, **facts)

    return add


def run_id(task: Task) -> str:
    return "evalrun_" + task.name.removeprefix("tasks/").replace("-", "")


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Task.QUEUED, "queued"),
        (Task.STARTING, "in_progress"),
        (Task.RUNNING, "in_progress"),
        (Task.PAUSED, "in_progress"),
        (Task.CANCELLING, "in_progress"),
        (Task.CANCELLED, "canceled"),
        (Task.FAILED, "failed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_status_of_a_run(http, add, state, status: str) -> None:
    kept = await made_eval(http)
    task = add(kept, state)
    assert (await http.get(f"{EVALS}/{kept['id']}/runs/{run_id(task)}")).json()["status"] == status
    for wanted, count in ((status, 1), ("completed", 0)):
        listed = await http.get(f"{EVALS}/{kept['id']}/runs", params={"status": wanted})
        assert len(listed.json()["data"]) == count


async def test_a_failure_is_told(http, add) -> None:
    kept = await made_eval(http)
    error = TaskError(reason="NOTHING_ANSWERED", message="no row", hint="Look.")
    task = add(kept, Task.FAILED, error=error, end_time=NOW)
    run = (await http.get(f"{EVALS}/{kept['id']}/runs/{run_id(task)}")).json()
    assert run["error"] == {"code": "nothing_answered", "message": "no row Look."}


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_follow_on_one_another_and_hold_one_eval(http, add, order: str) -> None:
    kept, other = await made_eval(http), await made_eval(http)
    newest_first = [run_id(add(kept)) for _ in range(5)]
    add(other)
    found, after = [], {}
    while True:
        page = (await http.get(f"{EVALS}/{kept['id']}/runs", params={"limit": 2, "order": order, **after})).json()
        found += [run["id"] for run in page["data"]]
        after = {"after": page["last_id"]}
        if not page["has_more"]:
            break
    assert found == (newest_first if order == "desc" else newest_first[::-1])


@pytest.mark.parametrize(
    "query",
    [{"after": f"evalrun_{'0' * 32}"}, {"limit": "x"}, {"order": "x"}, {"status": "cancelled"}],
    ids=lambda q: next(iter(q)),
)
async def test_a_bad_page_is_refused(http, query: dict) -> None:
    kept = await made_eval(http)
    answer = await http.get(f"{EVALS}/{kept['id']}/runs", params=query)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, next(iter(query)))


async def test_what_is_no_run_of_the_eval_is_not_found(http, platform, add) -> None:
    kept, other = await made_eval(http), await made_eval(http)
    tuning = platform.tasks.add(labels={"openai.eval": kept["id"]})
    plain = platform.tasks.add(spec=TaskSpec(evaluation=Evaluation(models=["tiny"])))
    for identifier in (run_id(add(other)), run_id(tuning), run_id(plain), f"evalrun_{'0' * 32}", "evalrun_x", kept["id"]):
        for suffix in ("", "/output_items"):
            answer = await http.get(f"{EVALS}/{kept['id']}/runs/{identifier}{suffix}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "eval_run_not_found")


async def test_a_run_is_cancelled_and_deleted(http, platform, add) -> None:
    kept = await made_eval(http)
    task = add(kept)
    path = f"{EVALS}/{kept['id']}/runs/{run_id(task)}"
    assert (await http.delete(path)).status_code == 409
    for suffix in ("/cancel", ""):
        assert (await http.post(path + suffix)).json()["status"] == "canceled"
    assert (await http.delete(path)).json() == {"object": "eval.run.deleted", "deleted": True, "run_id": run_id(task)}
    assert platform.tasks.stored == []
    assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("state", [Task.SUCCEEDED, Task.FAILED], ids=["succeeded", "failed"])
async def test_what_has_ended_cannot_be_cancelled(http, add, state) -> None:
    kept = await made_eval(http)
    answer = await http.post(f"{EVALS}/{kept['id']}/runs/{run_id(add(kept, state))}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_ended")
    assert answer.headers["x-should-retry"] == "false"


async def test_an_eval_without_required_keys_takes_any_item(http, platform) -> None:
    kept = await made_eval(http, data_source_config={**CONFIG, "item_schema": {"type": "object"}})
    prompt = {**PROMPT, "template": [{"role": "user", "content": "Hello"}]}
    source = a_source(source={"type": "file_content", "content": [{"item": {"x": 1}}]}, input_messages=prompt)
    await made_run(http, kept, source)
    assert rows_of(platform)[0]["messages"][-1]["content"] == "(none)"
