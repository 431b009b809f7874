"""A batch from its file to its answers: rows go through the code that generates, which runs in this process."""

import json
import os
import pathlib

import pytest
from google.protobuf import json_format

from services.common.errors import InvalidArgument, ServiceError, Violation
from services.common.grading.sampling import Sampling
from services.gateway import identifiers
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import GenerationConfig
from services.trainer.answering.generation import generate
from services.trainer.answering.reports import Reports
from tests.fake_platform import NOW, FakePlatform
from tests.unit.answering.fake_models import FakeModels
from tests.unit.gateway.frozen_contract import validate_as
from tests.unit.gateway.test_batches import BATCHES, BELL, CALL, FILES, HELLO, RUNG, create, lines, request, upload
from tunesmith.v1 import artifact_pb2
from tunesmith.v1.task_pb2 import Task

TOO_LONG = InvalidArgument(Violation("messages", "too long"), reason="CONTEXT_LENGTH_EXCEEDED")
BROKEN = ServiceError("INTERNAL", "the engine failed")


def repeat(model: str, messages) -> str:
    return f"{len(messages)} turns, the last says {messages[-1]['content']}"


async def finished(platform: FakePlatform, directory: pathlib.Path, models: FakeModels) -> Task:
    """The newest task brought to its end by the code that generates."""
    task = platform.tasks.stored[-1]
    numbers, data = task.spec.generation.sampling, directory / "data.jsonl"
    data.write_bytes(platform.datasets.uploads[-1][1])
    sampling = Sampling(numbers.max_tokens, numbers.temperature, numbers.top_p, numbers.seed)
    config = GenerationConfig(directory, data, sampling, None, "", task.spec.generation.model)
    reading, writing = os.pipe()
    try:
        outcome = await generate(config, Asker(models, at_once=2, clock=lambda: 1.0), Reports(writing), lambda: 1.0)
    finally:
        os.close(reading)
        os.close(writing)
    json_format.ParseDict(json.loads(json.dumps(outcome.result)), task.generation_result)
    answers = {"answers.jsonl": (config.output / "answers.jsonl").read_bytes()}
    task.artifact = platform.artifacts.add(answers, task.name, artifact_pb2.Artifact.GENERATION, expire_time=NOW).name
    task.state = Task.SUCCEEDED
    task.end_time.CopyFrom(NOW)
    return task


async def told(http, file: str) -> list[dict]:
    found = [json.loads(line) for line in (await http.get(f"{FILES}/{file}/content")).text.splitlines()]
    for line in found:
        validate_as(line, "BatchResult")
    return found


@pytest.fixture
def answered(http, platform, tmp_path):
    """The batch of these requests, ended."""

    async def answered(*requests: dict, models: FakeModels | None = None, trouble: dict | None = None, rule=repeat) -> dict:
        file = (await upload(http, lines(*requests))).json()
        begun = (await create(http, file["id"])).json()
        await finished(platform, tmp_path, models or FakeModels(rule, trouble))
        return (await http.get(f"{BATCHES}/{begun['id']}")).json()

    return answered


async def test_every_request_has_its_answer_under_its_own_id_and_in_order(http, answered) -> None:
    asked = [request(f"id {number}", messages=[*HELLO * number]) for number in range(1, 6)]
    batch = await answered(*asked)
    assert (batch["status"], batch["request_counts"]) == ("completed", {"total": 5, "completed": 5, "failed": 0})
    assert (await http.get(BATCHES)).json()["data"] == [batch]
    found = await told(http, batch["output_file_id"])
    assert [line["custom_id"] for line in found] == [f"id {number}" for number in range(1, 6)]
    texts = [line["response"]["body"]["choices"][0]["message"]["content"] for line in found]
    assert texts == [f"{number} turns, the last says hello" for number in range(1, 6)]
    assert batch["error_file_id"] is None


async def test_blank_lines_shift_no_answer(http, platform, tmp_path) -> None:
    body = b"\n" + lines(request("a")) + b"\n \n" + lines(request("b"))
    file = (await upload(http, body)).json()
    # What storage keeps of a file has no blank lines.
    header, stored = platform.datasets.uploads[-1]
    platform.datasets.uploads[-1] = header, b"".join(line + b"\n" for line in stored.splitlines() if line.strip())
    begun = (await create(http, file["id"])).json()
    await finished(platform, tmp_path, FakeModels(repeat))
    batch = (await http.get(f"{BATCHES}/{begun['id']}")).json()
    assert [line["custom_id"] for line in await told(http, batch["output_file_id"])] == ["a", "b"]


@pytest.mark.parametrize(
    ("trouble", "code"),
    [([TOO_LONG], "context_length_exceeded"), ([BROKEN] * 3, "internal")],
    ids=["too-long", "broken"],
)
async def test_what_could_not_be_answered_is_in_the_other_file(http, answered, monkeypatch, trouble: list, code: str) -> None:
    monkeypatch.setattr("services.trainer.answering.asking._FIRST_PAUSE", 0.0)
    batch = await answered(*(request(name) for name in "abc"), trouble={2: trouble})
    assert batch["request_counts"] == {"total": 3, "completed": 2, "failed": 1}
    assert [line["custom_id"] for line in await told(http, batch["output_file_id"])] == ["a", "c"]
    (error,) = await told(http, batch["error_file_id"])
    assert (error["custom_id"], error["response"], error["error"]["code"]) == ("b", None, code)


async def test_an_empty_answer_is_an_error_and_no_answer(http, answered) -> None:
    batch = await answered(request("a"), rule=lambda *_: " ")
    assert batch["output_file_id"] is None
    (error,) = await told(http, batch["error_file_id"])
    assert error["error"] == {"code": "answer_unusable", "message": "the model's answer is empty"}


async def test_a_label_that_looks_like_a_number_stays_a_text(http, answered) -> None:
    batch = await answered(request("007"), request("7"))
    assert [line["custom_id"] for line in await told(http, batch["output_file_id"])] == ["007", "7"]


async def test_system_and_earlier_turns_reach_the_model(http, platform, answered) -> None:
    turns = [
        {"role": "system", "content": "s"},
        *HELLO,
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "again"},
    ]
    seen = []

    def rule(model: str, messages) -> str:
        seen.append([turn["role"] for turn in messages])
        return "yes"

    await answered(request("a", messages=turns), rule=rule)
    assert seen == [["system", "user", "assistant", "user"]]


async def test_tools_reach_the_model_and_its_calls_the_caller(http, answered) -> None:
    models = FakeModels(repeat)
    models.calls = {1: [{**CALL, "id": "call_1"}]}
    named = {"type": "function", "function": {"name": "bell"}}
    asked = (request("rings", tools=[BELL], tool_choice=named), request("says", messages=RUNG, tools=[BELL]), request("none"))
    batch = await answered(*asked, models=models)
    first, second, third = sorted(models.questions, key=lambda each: each.row)
    assert (first.tools, first.tool_choice, first.keeps_to_schemas) == ([BELL], named, True)
    assert (second.tools, second.tool_choice) == ([BELL], None)
    assert [turn["role"] for turn in second.messages] == ["user", "assistant", "tool"]
    assert (second.messages[1]["tool_calls"], second.messages[2]["tool_call_id"]) == ([CALL], "1")
    assert (third.tools, third.tool_choice) == ((), None)
    rings, says, _ = await told(http, batch["output_file_id"])
    (choice,) = rings["response"]["body"]["choices"]
    message = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [{**CALL, "id": "call_1"}]}
    assert (choice["finish_reason"], choice["message"]) == ("tool_calls", message)
    assert says["response"]["body"]["choices"][0]["message"]["content"] == "3 turns, the last says rung"
    assert "tool_calls" not in says["response"]["body"]["choices"][0]["message"]


async def test_a_model_without_tools_is_an_error_of_those_requests_alone(http, answered) -> None:
    refusal = ServiceError("TOOLS_UNSUPPORTED", "its chat template has none")
    batch = await answered(request("a", tools=[BELL]), request("b"), trouble={1: [refusal]})
    assert batch["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    (failed,) = await told(http, batch["error_file_id"])
    assert (failed["custom_id"], failed["error"]["code"]) == ("a", "tools_unsupported")


async def test_tokens_and_ids_are_those_of_the_answer(http, answered) -> None:
    batch = await answered(request("a"), request("b"))
    first, second = await told(http, batch["output_file_id"])
    assert first["response"]["body"]["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert len({first["id"], second["id"], first["response"]["request_id"], second["response"]["request_id"]}) == 4
    assert first["response"]["body"]["id"] != second["response"]["body"]["id"]


async def test_the_bytes_of_a_file_are_as_many_as_it_says(http, answered) -> None:
    batch = await answered(*(request(name) for name in "abc"), trouble={1: [TOO_LONG]})
    for identifier in (batch["output_file_id"], batch["error_file_id"]):
        described = (await http.get(f"{FILES}/{identifier}")).json()
        assert described["bytes"] == len((await http.get(f"{FILES}/{identifier}/content")).content)
    assert described["filename"].endswith("_errors.jsonl")


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 101}, {"after": "x"}, {"after": "batch_" + "0" * 32}], ids=str)
async def test_a_bad_page_is_refused(http, query: dict) -> None:
    answer = await http.get(BATCHES, params=query)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("identifier", ["batch_x", "x", "batch_" + "0" * 32, "file-" + "0" * 32])
@pytest.mark.parametrize("suffix", ["", "/cancel"])
async def test_what_is_no_batch_is_not_found(http, identifier: str, suffix: str) -> None:
    address = f"{BATCHES}/{identifier}{suffix}"
    answer = await (http.post(address) if suffix else http.get(address))
    assert answer.status_code == 404


async def test_a_batch_can_be_cancelled_twice(http, platform) -> None:
    file = (await upload(http, lines(request()))).json()
    begun = (await create(http, file["id"])).json()
    for _ in range(2):
        answer = await http.post(f"{BATCHES}/{begun['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert answer.json()["output_file_id"] is None


async def test_a_cancelled_batch_has_what_was_answered(http, platform, answered) -> None:
    batch = await answered(*(request(name) for name in "abc"), trouble={2: [TOO_LONG]})
    task = platform.tasks.stored[-1]
    task.generation_result.partial_artifact, task.artifact, task.state = task.artifact, "", Task.CANCELLED
    task.generation_result.row_count = 5
    batch = (await http.get(f"{BATCHES}/{batch['id']}")).json()
    assert (batch["status"], batch["request_counts"]) == ("cancelled", {"total": 5, "completed": 2, "failed": 1})
    assert [line["custom_id"] for line in await told(http, batch["output_file_id"])] == ["a", "c"]
    assert [line["custom_id"] for line in await told(http, batch["error_file_id"])] == ["b"]
    assert (await http.get(BATCHES)).json()["data"] == [batch]
    task.state = Task.FAILED
    assert (await http.get(f"{BATCHES}/{batch['id']}")).json()["output_file_id"] is None


async def test_a_failed_batch_cannot_be_cancelled(http, platform) -> None:
    file = (await upload(http, lines(request()))).json()
    begun = (await create(http, file["id"])).json()
    platform.tasks.stored[-1].state = Task.FAILED
    answer = await http.post(f"{BATCHES}/{begun['id']}/cancel")
    assert (answer.status_code, answer.json()["error"]["type"]) == (409, "conflict")


async def test_a_file_of_requests_is_listed_and_deleted_like_any_other(http) -> None:
    file = (await upload(http, lines(request()))).json()
    assert [each["id"] for each in (await http.get(FILES, params={"purpose": "batch"})).json()["data"]] == [file["id"]]
    assert (await http.delete(f"{FILES}/{file['id']}")).json() == {"id": file["id"], "object": "file", "deleted": True}
    assert (await create(http, file["id"])).json()["error"]["param"] == "input_file_id"


def test_files_and_batches_of_a_task_are_told_apart_by_their_ids() -> None:
    task = f"tasks/{'0' * 8}-{'0' * 4}-{'0' * 4}-{'0' * 4}-{'0' * 11}1"
    ids = [identifiers.output_id(task), identifiers.errors_id(task), identifiers.batch_id(task), identifiers.job_id(task)]
    assert len(set(ids)) == 4
    assert [identifiers.batch_file_task(each) for each in ids] == [task, task, None, None]
