"""Batches are generations: requests become rows on their way in, answers become lines of files on their way out."""

import json

import pytest

from services.gateway import batch_request, identifiers
from services.gateway.batch_request import given_in
from services.gateway.batch_rows import BatchRows
from services.storage.checking.example import Format
from services.storage.checking.row import read_row
from tests.fake_platform import NOW
from tests.unit.gateway.frozen_contract import validate_as
from tests.unit.gateway.test_chat import TASK
from tunesmith.v1 import artifact_pb2
from tunesmith.v1.generation_pb2 import Generation, GenerationResult
from tunesmith.v1.task_error_pb2 import TaskError
from tunesmith.v1.task_pb2 import Task, TaskProgress
from tunesmith.v1.task_spec_pb2 import TaskSpec

FILES, BATCHES = "/v1/files", "/v1/batches"
ENDPOINT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
LABELS = {"openai.endpoint": ENDPOINT, "openai.model": "tiny"}


def request(custom_id: str = "a", **body) -> dict:
    return {"custom_id": custom_id, "method": "POST", "url": ENDPOINT, "body": {"model": "tiny", "messages": HELLO, **body}}


def lines(*requests: dict) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in requests)


def upload(http, body: bytes, purpose: str = "batch", name: str = "asks.jsonl"):
    return http.post(FILES, files={"file": (name, body)}, data={"purpose": purpose})


def create(http, file: str, **body):
    return http.post(BATCHES, json={"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h", **body})


@pytest.fixture
def made(platform):
    """Adds the task of a batch; with `told`, it has succeeded with these answers."""

    def add(told: list[dict] | None = None, state: int = Task.SUCCEEDED, **facts) -> Task:
        spec = TaskSpec(generation=Generation(model="tiny", dataset=f"datasets/{'1' * 32}"))
        if told is not None:
            failed = sum("text" not in each for each in told)
            counts = {"row_count": len(told), "answered_count": len(told) - failed, "failed_count": failed}
            facts |= {"generation_result": GenerationResult(**counts), "end_time": NOW}
        task = platform.tasks.add(state=state, spec=spec, labels={**LABELS, **facts.pop("labels", {})}, **facts)
        if told is not None:
            kind = artifact_pb2.Artifact.GENERATION
            task.artifact = platform.artifacts.add({"answers.jsonl": lines(*told)}, task.name, kind, expire_time=NOW).name
        return task

    return add


def answered(row: int, label: str, text: str = "yes", finish: str = "STOP") -> dict:
    return {"row": row, "label": label, "text": text, "finish_reason": finish, "prompt_tokens": 5, "completion_tokens": 3}


def unanswered(row: int, label: str) -> dict:
    return {"row": row, "label": label, "reason": "CONTEXT_LENGTH_EXCEEDED", "message": "too long"}


async def test_requests_are_stored_as_rows_that_a_generation_can_answer(http, platform) -> None:
    asked = request("first", temperature=0.5, max_tokens=7)
    file = (await upload(http, lines(asked))).json()
    (header, stored) = platform.datasets.uploads[0]
    rest = {"method": "POST", "url": ENDPOINT, "body": {"model": "tiny", "temperature": 0.5, "max_tokens": 7}}
    assert json.loads(stored) == {"messages": HELLO, "label": "first", "request": rest}
    assert header.display_name == "openai.batch/asks.jsonl"
    assert (file["purpose"], file["filename"], file["bytes"]) == ("batch", "asks.jsonl", len(stored))
    assert (await http.get(f"{FILES}/{file['id']}")).json() == file


def test_storage_takes_a_request_for_a_labeled_row() -> None:
    row = read_row(BatchRows().take(lines(request("first", temperature=0.5))).strip(), None)
    assert (row.format, row.ending, row.ignored_keys) == (Format.LABELED, "first", ("request",))


async def test_what_was_uploaded_comes_back(http) -> None:
    asked = [request("ä", user="u"), request("b", messages=[{"role": "system", "content": "x", "name": "n"}, *HELLO])]
    file = (await upload(http, b"\n" + lines(*asked).rstrip())).json()
    content = (await http.get(f"{FILES}/{file['id']}/content")).text
    assert [json.loads(line) for line in content.splitlines()] == asked


async def test_tools_stand_beside_the_conversation_and_come_back_as_they_were(http, platform) -> None:
    asked = [
        request("a", messages=RUNG, tools=[BELL], tool_choice={"type": "function", "function": {"name": "bell"}}),
        request("b", tools=[BELL], tool_choice=None, parallel_tool_calls=False),
        request("c", tools=[], tool_choice="none"),
    ]
    file = (await upload(http, lines(*asked))).json()
    rows = [json.loads(line) for line in platform.datasets.uploads[0][1].splitlines()]
    assert (rows[0]["messages"], rows[0]["tools"], rows[0]["tool_choice"]) == (RUNG, [BELL], asked[0]["body"]["tool_choice"])
    assert rows[0]["request"]["body"] == {"model": "tiny"}
    assert "tools" not in rows[2]
    for row in rows:
        assert read_row(json.dumps(row).encode(), Format.LABELED).format is Format.LABELED
    content = (await http.get(f"{FILES}/{file['id']}/content")).text
    assert [json.loads(line) for line in content.splitlines()] == asked


async def test_a_row_has_the_number_of_its_line(http, platform) -> None:
    await upload(http, b"\n\n" + lines(request("a")) + b" \n" + lines(request("b")))
    rows = platform.datasets.uploads[0][1].split(b"\n")
    assert [bool(row) for row in rows] == [False, False, True, False, True, False]


@pytest.mark.parametrize(
    ("body", "purpose", "name"),
    [
        (lines(request()), "batch", "openai.batch/x.jsonl"),
        (b'{"messages": [], "custom_id": "a"}\n', "fine-tune", "x.jsonl"),
        (b'[{"messages": []}]', "fine-tune", "x.jsonl"),
        (lines(request()).strip(), "batch", "openai.batch/x.jsonl"),
    ],
    ids=["requests", "rows", "array", "one-line"],
)
async def test_the_purpose_may_come_behind_the_file(http, platform, body: bytes, purpose: str, name: str) -> None:
    answer = await http.post(FILES, content=_form(body, purpose), headers=_FORM)
    assert (answer.status_code, answer.json()["purpose"]) == (200, purpose)
    assert platform.datasets.uploads[0][0].display_name == name


@pytest.mark.parametrize(
    ("body", "purpose"), [(lines(request()), "fine-tune"), (b'{"messages": []}\n', "batch")], ids=["requests", "rows"]
)
async def test_a_file_that_is_not_what_its_purpose_says_is_refused(http, platform, body: bytes, purpose: str) -> None:
    answer = await http.post(FILES, content=_form(body, purpose), headers=_FORM)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")
    assert platform.datasets.uploads == []


_FORM = {"content-type": "multipart/form-data; boundary=b"}


def _form(body: bytes, purpose: str) -> bytes:
    head = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n'
    tail = b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode() + b"\r\n--b--\r\n"
    return head + body + tail


BELL = {"type": "function", "function": {"name": "bell", "parameters": {"type": "object"}, "strict": True}}
CALL = {"type": "function", "id": "1", "function": {"name": "bell", "arguments": '{"times": 2}'}}
RUNG = [*HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
RUNG += [{"role": "tool", "tool_call_id": "1", "content": "rung"}]
ASSISTANT = {"role": "assistant", "content": "hi"}


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("{", "request"),
        ("[]", "request"),
        (r'"\ud800"', "request"),
        ({**request(), "custom_id": ""}, "custom_id"),
        ({**request(), "custom_id": 7}, "custom_id"),
        ({**request(), "custom_id": "x" * 201}, "custom_id"),
        (request("first"), "custom_id"),
        ({**request(), "method": "GET"}, "method"),
        ({**request(), "url": "/v1/responses"}, "url"),
        ({**request(), "body": []}, "body"),
        (request(model=""), "body.model"),
        (request(model="other"), "body.model"),
        (request(model="x" * 513), "body.model"),
        (request(temperature=0.7), "body.temperature"),
        (request(temperature=7), "body.temperature"),
        (request(seed=7), "body.seed"),
        (request(stop=["x"]), "body.stop"),
        (request(max_completion_tokens=0), "body.max_completion_tokens"),
        (request(messages=[]), "body.messages"),
        (request(messages=[{"role": "user", "content": 7}]), "body.messages[0].content"),
        (request(messages=[*HELLO, ASSISTANT]), "body.messages[1].role"),
        (request(messages=[*HELLO, {"role": "function", "name": "f", "content": "x"}]), "body.messages[1].role"),
        (request(messages=[{**ASSISTANT, "tool_calls": [{"id": "1"}]}, *HELLO]), "body.messages[0].tool_calls[0].function"),
        (request(tools=[{"type": "web_search"}]), "body.tools[0].type"),
        (request(tools=[{"type": "function", "function": {"strict": True}}]), "body.tools[0].function.name"),
        (request(tools=[BELL], tool_choice="perhaps"), "body.tool_choice"),
        (request(tool_choice="required"), "body.tool_choice"),
        (request(n=2), "body.n"),
        (request(stream=True), "body.stream"),
        (request(response_format={"type": "json_object"}), "body.response_format"),
        (request(top_k=5), "body.top_k"),
        (request(audio={"voice": "x"}), "body.audio"),
    ],
)
async def test_a_bad_line_is_told_by_its_number_and_place(http, platform, line: dict | str, place: str) -> None:
    bad = line if isinstance(line, str) else json.dumps(line)
    answer = await upload(http, lines(request("first"), request("second")) + bad.encode())
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, f"line 3: {place}", "dataset_invalid")
    assert platform.datasets.uploads == []


def test_everything_that_is_refused_is_a_field_of_a_chat() -> None:
    for name in batch_request.REFUSED:
        with pytest.raises(batch_request.InvalidArgument) as caught:
            batch_request.request_of(request(**{name: True}))
        assert caught.value.violations[0].field == f"body.{name}"


def test_what_asks_for_nothing_is_no_reason_to_refuse() -> None:
    neutral = {"n": 1, "stream": False, "tools": [], "response_format": {"type": "text"}, "repetition_penalty": 1, "top_k": 0}
    assert batch_request.request_of(request(**neutral)).custom_id == "a"


async def test_a_file_without_a_request_and_a_line_without_an_end_are_refused(http, monkeypatch) -> None:
    assert (await upload(http, b"\n \n")).json()["error"]["param"] == "file"
    monkeypatch.setattr("services.gateway.row_lines._LONGEST_LINE", 10)
    assert (await upload(http, lines(request()).strip())).json()["error"]["param"] == "line 1"


async def test_a_batch_has_so_many_requests_at_most(http, monkeypatch) -> None:
    monkeypatch.setattr("services.gateway.batch_rows._MAX_REQUESTS", 1)
    assert (await upload(http, lines(request("a")))).status_code == 200
    assert (await upload(http, lines(request("a"), request("b")))).json()["error"]["param"] == "line 2: request"


async def test_files_are_listed_by_purpose(http) -> None:
    batch = (await upload(http, lines(request()))).json()["id"]
    rows = (await upload(http, b'{"messages": []}\n', "fine-tune")).json()["id"]
    for purpose, found in (("batch", [batch]), ("fine-tune", [rows]), ("", [rows, batch]), ("vision", [])):
        answer = await http.get(FILES, params={"purpose": purpose} if purpose else {})
        assert [file["id"] for file in answer.json()["data"]] == found
    assert (await http.get(FILES, params={"purpose": "batch_output"})).status_code == 400


async def test_training_data_may_not_have_the_name_of_a_batch(http) -> None:
    answer = await upload(http, b'{"messages": []}\n', "fine-tune", "openai.batch/x.jsonl")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")


async def test_parts_are_no_way_to_send_requests(http) -> None:
    answer = await http.post("/v1/uploads", json={"filename": "x", "purpose": "batch", "bytes": 5})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "purpose")


async def test_a_batch_is_a_generation_with_the_sampling_of_its_lines(http, platform) -> None:
    said = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 2**31 + 3, "stop": "!"}
    file = (await upload(http, lines(request("a", **said), request("b", **said)))).json()
    answer = await create(http, file["id"], metadata={"team": "a"})
    (asked,) = platform.tasks.created
    generation = asked.task.spec.generation
    numbers = generation.sampling
    assert (generation.model, generation.dataset) == ("tiny", file["tunesmith"]["dataset"])
    assert (numbers.temperature, numbers.top_p, numbers.max_tokens, numbers.seed) == (0.5, 0.9, 7, 3)
    assert list(numbers.stop) == ["!"]
    assert dict(asked.task.labels) == {"team": "a", **LABELS}
    batch = answer.json()
    assert (batch["status"], batch["input_file_id"], batch["metadata"]) == ("validating", file["id"], {"team": "a"})
    assert (batch["model"], batch["endpoint"], batch["completion_window"]) == ("tiny", ENDPOINT, "24h")
    assert (await http.get(f"{BATCHES}/{batch['id']}")).json() == batch


async def test_a_tuned_model_is_found_by_its_name(http, platform) -> None:
    name = f"ft:tiny:tunesmith::{TASK.removeprefix('tasks/').replace('-', '')}"
    file = (await upload(http, lines(request(model=name)))).json()
    assert (await create(http, file["id"])).json()["model"] == name
    assert platform.tasks.created[0].task.spec.generation.model == TASK


async def test_a_repeat_under_one_key_has_one_request_id(http, platform) -> None:
    file = (await upload(http, lines(request()))).json()["id"]
    asked = {"input_file_id": file, "endpoint": ENDPOINT, "completion_window": "24h"}
    for _ in range(2):
        await http.post(BATCHES, json=asked, headers={"idempotency-key": "k"})
    first, second = (created.request_id for created in platform.tasks.created)
    assert first == second != ""


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"endpoint": None}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"openai.model": "x"}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
        ({"input_file_id": "file-none"}, "input_file_id"),
        ({"input_file_id": identifiers.output_id(TASK)}, "input_file_id"),
        ({"input_file_id": ""}, "input_file_id"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(http, platform, body: dict, param: str) -> None:
    file = (await upload(http, lines(request()))).json()["id"]
    answer = await create(http, file, **body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert platform.tasks.created == []


@pytest.mark.parametrize("body", [b"", b'{"messages": [], "label": "x"}\n'], ids=["empty", "other"])
async def test_a_dataset_that_nobody_uploaded_for_a_batch_is_none(http, platform, body: bytes) -> None:
    training = identifiers.file_id(platform.datasets.add(lines(request())).name)
    assert "no file of purpose batch" in (await create(http, training)).json()["error"]["message"]
    other = identifiers.file_id(platform.datasets.add(body, "openai.batch/x").name)
    assert (await create(http, other)).json()["error"]["param"].startswith("input_file_id")


@pytest.mark.parametrize(
    ("state", "step", "status"),
    [
        (Task.QUEUED, 0, "validating"),
        (Task.STARTING, 0, "in_progress"),
        (Task.RUNNING, 1, "in_progress"),
        (Task.RUNNING, 4, "finalizing"),
        (Task.PAUSED, 1, "in_progress"),
        (Task.CANCELLING, 1, "cancelling"),
        (Task.CANCELLED, 1, "cancelled"),
        (Task.FAILED, 1, "failed"),
    ],
)
async def test_the_status_follows_the_task(http, made, state: int, step: int, status: str) -> None:
    task = made(state=state, progress=TaskProgress(step=step, total_steps=4), start_time=NOW, end_time=NOW)
    batch = (await http.get(f"{BATCHES}/{identifiers.batch_id(task.name)}")).json()
    assert (batch["status"], batch["request_counts"]) == (status, {"total": 4, "completed": step, "failed": 0})
    ended = {name for name in ("completed_at", "failed_at", "cancelled_at") if batch[name]}
    assert ended == ({f"{status}_at"} if status in ("failed", "cancelled") else set())
    assert batch["output_file_id"] is batch["error_file_id"] is None


async def test_why_a_batch_failed_is_told(http, made) -> None:
    task = made(state=Task.FAILED, error=TaskError(reason="MODEL_GONE", message="It is gone.", hint="Ask another."))
    batch = (await http.get(f"{BATCHES}/{identifiers.batch_id(task.name)}")).json()
    assert batch["errors"]["data"] == [{"code": "model_gone", "message": "It is gone. Ask another.", "param": None, "line": None}]


async def test_answers_and_errors_are_lines_of_two_files(http, made) -> None:
    told = [answered(1, "a"), unanswered(2, "b"), answered(3, "c", "on and", "LENGTH")]
    task = made(told)
    batch = (await http.get(f"{BATCHES}/{identifiers.batch_id(task.name)}")).json()
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 3, "completed": 2, "failed": 1})
    first, second = await content(http, batch["output_file_id"])
    body = first["response"]["body"]
    assert (first["custom_id"], second["custom_id"], first["error"]) == ("a", "c", None)
    assert (body["model"], body["created"], body["choices"][0]["message"]["content"]) == ("tiny", NOW.seconds, "yes")
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert second["response"]["body"]["choices"][0]["finish_reason"] == "length"
    (error,) = await content(http, batch["error_file_id"])
    assert (error["custom_id"], error["response"]) == ("b", None)
    assert error["error"] == {"code": "context_length_exceeded", "message": "too long"}
    assert len({line["id"] for line in (first, second, error)}) == 3


async def content(http, file: str) -> list[dict]:
    answer = await http.get(f"{FILES}/{file}/content")
    told = [json.loads(line) for line in answer.text.splitlines()]
    for line in told:
        validate_as(line, "BatchResult")
    described = (await http.get(f"{FILES}/{file}")).json()
    assert (described["purpose"], described["bytes"]) == ("batch_output", len(answer.content))
    assert described["expires_at"] == NOW.seconds
    return told


async def test_a_file_without_a_line_is_not_there(http, made) -> None:
    for told, named, missing in (
        ([answered(1, "a")], "output_file_id", identifiers.errors_id),
        ([unanswered(1, "a")], "error_file_id", identifiers.output_id),
    ):
        task = made(told)
        batch = (await http.get(f"{BATCHES}/{identifiers.batch_id(task.name)}")).json()
        assert [name for name in ("output_file_id", "error_file_id") if batch[name]] == [named]
        answer = await http.get(f"{FILES}/{missing(task.name)}/content")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


@pytest.mark.parametrize("path", ["", "/content"], ids=["object", "content"])
async def test_the_files_end_with_the_artifact(http, platform, made, path: str) -> None:
    task = made([answered(1, "a")])
    platform.artifacts.stored.clear()
    for identifier in (identifiers.output_id(task.name), identifiers.output_id(TASK)):
        answer = await http.get(f"{FILES}/{identifier}{path}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "file_not_found")


async def test_the_files_of_a_batch_are_neither_deleted_nor_trained_on(http, made) -> None:
    file = identifiers.output_id(made([answered(1, "a")]).name)
    assert (await http.delete(f"{FILES}/{file}")).status_code == 400
    answer = await http.post("/v1/fine_tuning/jobs", json={"model": "tiny", "training_file": file})
    assert answer.json()["error"]["param"] == "training_file"


async def test_a_batch_is_cancelled_until_it_has_ended(http, made) -> None:
    running, ended = made(state=Task.RUNNING), made([answered(1, "a")])
    answer = await http.post(f"{BATCHES}/{identifiers.batch_id(running.name)}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    answer = await http.post(f"{BATCHES}/{identifiers.batch_id(ended.name)}/cancel")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "job_ended")
    assert answer.headers["x-should-retry"] == "false"


async def test_batches_are_listed_page_by_page_and_other_tasks_are_none(http, platform, made) -> None:
    generation = TaskSpec(generation=Generation(model="tiny", dataset="datasets/x"))
    others = [platform.tasks.add(spec=generation), platform.tasks.add(labels=LABELS)]
    tasks = [made(state=Task.QUEUED) for _ in range(3)]
    for number, task in enumerate(tasks):
        task.create_time.seconds = NOW.seconds - number
    found, after = [], {}
    while True:
        page = (await http.get(BATCHES, params={"limit": 2, **after})).json()
        found += [each["id"] for each in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert found == [identifiers.batch_id(task.name) for task in tasks]
    assert (await http.get(BATCHES, params={"after": identifiers.batch_id(TASK)})).status_code == 400
    for task in others:
        assert (await http.get(f"{BATCHES}/{identifiers.batch_id(task.name)}")).status_code == 404
    assert (await http.get(f"{BATCHES}/{identifiers.job_id(tasks[0].name)}")).status_code == 404


def test_a_row_that_is_no_request_is_itself() -> None:
    assert given_in({"messages": []}) == {"messages": []}
