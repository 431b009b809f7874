"""The `openai` package does against us what a script written for OpenAI does with it: upload, create, follow, chat, clean up."""

import json
import os
import pathlib
import subprocess
import sys

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.e2e.local_stack import LocalStack, eventually
from tests.e2e.register import register_base_model
from tests.shared_stack import TINY, write_rows
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.e2e


def test_a_script_for_openai_runs_with_another_base_url_alone(client, stack: LocalStack, tmp_path: pathlib.Path) -> None:
    """Even the model has OpenAI's name: that is what somebody may call one of theirs."""
    model = make_tiny_model(tmp_path / "model")
    register_base_model(stack.state()["addresses"]["storage"], "gpt-4o-mini-2024-07-18", model)
    environment = {"OPENAI_BASE_URL": str(client.base_url), "OPENAI_API_KEY": client.api_key, "PATH": os.environ["PATH"]}
    script = pathlib.Path(__file__).with_name("clients") / "cookbook.py"
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_comes_back_as_it_was_uploaded(client, training_file, rows: pathlib.Path) -> None:
    assert training_file.id.startswith("file-")
    assert (training_file.purpose, training_file.status, training_file.filename) == ("fine-tune", "processed", "rows.jsonl")
    assert training_file.bytes == rows.stat().st_size
    assert client.files.retrieve(training_file.id).to_dict() == training_file.to_dict()
    assert client.files.content(training_file.id).read() == rows.read_bytes()
    assert client.files.wait_for_processing(training_file.id, poll_interval=0.1).id == training_file.id


def test_files_are_listed_page_by_page_and_deleted(client, tmp_path: pathlib.Path) -> None:
    made = [client.files.create(file=write_rows(tmp_path / f"{n}.jsonl", n + 1), purpose="fine-tune") for n in range(3)]
    assert [file.id for file in client.files.list(limit=2)][:3] == [file.id for file in reversed(made)]
    assert [file.id for file in client.files.list(limit=2, order="asc")][-3:] == [file.id for file in made]
    for file in made:
        assert client.files.delete(file.id).deleted
    assert not {file.id for file in made} & {file.id for file in client.files.list()}
    with pytest.raises(openai.NotFoundError) as caught:
        client.files.retrieve(made[0].id)
    assert caught.value.code == "file_not_found"


def test_a_big_file_comes_in_parts(client, rows: pathlib.Path) -> None:
    size = rows.stat().st_size
    upload = client.uploads.upload_file_chunked(file=rows, mime_type="text/jsonl", purpose="fine-tune", part_size=size // 3)
    assert (upload.status, upload.file.bytes, upload.file.filename) == ("completed", size, "rows.jsonl")
    assert client.files.content(upload.file.id).read() == rows.read_bytes()
    begun = client.uploads.create(filename="x.jsonl", purpose="fine-tune", bytes=size, mime_type="text/jsonl")
    client.uploads.parts.create(begun.id, data=rows.read_bytes())
    assert client.uploads.cancel(begun.id).status == "cancelled"


def test_a_bad_row_is_told_by_line(client, tmp_path: pathlib.Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistent", "content": "b"}]}\n')
    with pytest.raises(openai.BadRequestError, match="line 1") as caught:
        client.files.create(file=bad, purpose="fine-tune")
    assert caught.value.code == "dataset_invalid"


def test_the_job_tells_what_was_asked_and_what_came_of_it(client, job) -> None:
    assert job.id.startswith("ftjob-")
    assert (job.model, job.seed, job.hyperparameters.n_epochs) == (TINY, 7, 2)
    assert client.files.retrieve(job.training_file).filename == "train.jsonl"
    assert job.metadata == {"team": "support"}
    assert job.hyperparameters.batch_size == 8
    assert job.method.supervised.hyperparameters.batch_size == 8
    assert job.fine_tuned_model.startswith(f"ft:{TINY}:tunesmith:support:")
    assert job.trained_tokens > 0
    assert job.finished_at >= job.created_at
    assert job.error is None


def test_jobs_are_found_by_metadata(client, job) -> None:
    assert job.id in [each.id for each in client.fine_tuning.jobs.list()]
    assert [each.id for each in client.fine_tuning.jobs.list(metadata={"team": "support"})] == [job.id]
    assert list(client.fine_tuning.jobs.list(metadata={"team": "other"})) == []


def test_events_come_newest_first_and_a_page_at_a_time(client, job) -> None:
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    numbers = [event.data["sequence"] for event in events]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == len(numbers) > 6
    assert events[0].message.startswith("Succeeded")
    assert events[-1].message.startswith("Queued")
    losses = [event.data["train_loss"] for event in events if event.type == "metrics" and "train_loss" in event.data]
    assert len(losses) == 6


def test_the_result_file_is_csv_with_a_line_a_step(client, job) -> None:
    (results,) = job.result_files
    lines = client.files.content(results).text.splitlines()
    assert lines[0] == "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy"
    assert [line.split(",")[0] for line in lines[1:]] == [str(step) for step in range(1, 7)]
    file = client.files.retrieve(results)
    assert (file.purpose, file.bytes) == ("fine-tune-results", len("\n".join(lines)) + 1)


def test_checkpoints_are_an_honest_list(client, job) -> None:
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []


def test_the_event_stream_ends_with_done_and_resumes(client, job, stack: LocalStack) -> None:
    path = f"{client.base_url}fine_tuning/jobs/{job.id}/events?stream=true"
    whole = _sse(client, path)
    assert whole[-1] == (None, "[DONE]")
    assert json.loads(whole[-2][1])["message"].startswith("Succeeded")
    numbers = [number for number, _ in whole[:-1]]
    assert _sse(client, path, {"last-event-id": str(numbers[3])}) == whole[4:]
    points = _sse(client, path.replace("/events", "/metrics"))
    assert [json.loads(data)["step"] for _, data in points[:-1]] == list(range(1, 7))


def test_the_tuned_model_is_listed_until_it_ends(client, job) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {TINY, job.fine_tuned_model} <= set(models)
    found = client.models.retrieve(job.fine_tuned_model)
    assert found.to_dict() == models[job.fine_tuned_model].to_dict()
    assert found.to_dict()["shutdown_date"]
    assert client.models.retrieve(TINY).owned_by == "tunesmith"


@pytest.mark.parametrize("tuned", [False, True], ids=["base", "tuned"])
def test_chat_answers_whole_and_streamed_alike(client, job, tuned: bool) -> None:
    model = job.fine_tuned_model if tuned else TINY
    asked = {"model": model, "messages": [{"role": "user", "content": "number 3"}], "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    assert whole.choices[0].message.role == "assistant"
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage.to_dict() == whole.usage.to_dict()
    assert (whole.model, chunks[0].model) == (model, model)


def test_a_batch_is_answered_line_by_line(client, tmp_path: pathlib.Path) -> None:
    asks = tmp_path / "asks.jsonl"
    # The last one is longer than the model's context.
    texts = [f"number {n}" for n in range(4)] + ["long " * 5000]
    asks.write_text("".join(json.dumps(_request(f"ask-{n}", text)) + "\n" for n, text in enumerate(texts)))
    file = client.files.create(file=asks, purpose="batch")
    assert [json.loads(line) for line in client.files.content(file.id).text.splitlines()] == [
        json.loads(line) for line in asks.read_text().splitlines()
    ]
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = client.batches.create(**asked, metadata={"team": "support"})
    eventually(lambda: client.batches.retrieve(batch.id).status in ("completed", "failed"), 90, "completed")
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.metadata) == ("completed", {"team": "support"})
    assert batch.request_counts.to_dict() == {"total": 5, "completed": 4, "failed": 1}
    told = {line["custom_id"]: line for line in map(json.loads, client.files.content(batch.output_file_id).text.splitlines())}
    assert list(told) == ["ask-0", "ask-1", "ask-2", "ask-3"]
    alone = client.chat.completions.create(**_request("", "number 3")["body"])
    body = ChatCompletion.model_validate(told["ask-3"]["response"]["body"])
    assert body.choices[0].to_dict() == alone.choices[0].to_dict()
    assert body.usage.to_dict() == alone.usage.to_dict()
    (failed,) = map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    assert (failed["custom_id"], failed["error"]["code"]) == ("ask-4", "context_length_exceeded")
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"
    assert next(iter(client.batches.list(limit=1))).to_dict() == batch.to_dict()
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_a_cancelled_batch_has_what_was_answered(client) -> None:
    asks = [_request(f"ask-{number}", f"number {number}") for number in range(2000)]
    file = client.files.create(file=("many.jsonl", "\n".join(map(json.dumps, asks)).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 0, 90, "begun")
    client.batches.cancel(batch.id)
    eventually(lambda: client.batches.retrieve(batch.id).status == "cancelled", 60, "cancelled")
    batch = client.batches.retrieve(batch.id)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert 0 < len(answers) == batch.request_counts.completed < batch.request_counts.total == 2000
    assert all(each["response"]["body"]["choices"][0]["message"]["content"] for each in answers)


def test_a_bad_request_of_a_batch_is_told_by_line(client) -> None:
    bad = json.dumps(_request("a", "b") | {"url": "/v1/embeddings"}).encode()
    with pytest.raises(openai.BadRequestError, match="line 1: url") as caught:
        client.files.create(file=("bad.jsonl", bad), purpose="batch")
    assert caught.value.param == "line 1: url"


def test_responses_answer_whole_and_streamed_alike(client) -> None:
    asked = {"model": TINY, "input": "number 3", "instructions": "Count.", "max_output_tokens": 8}
    whole = client.responses.create(**asked)
    assert whole.output_text
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens > 0
    *events, last = client.responses.create(**asked, stream=True)
    pieces = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(pieces) == last.response.output_text == whole.output_text
    assert last.response.usage.to_dict() == whole.usage.to_dict()
    assert (last.type, whole.status) in (("response.incomplete", "incomplete"), ("response.completed", "completed"))
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": False}
    form = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
    question = [{"role": "user", "content": "Yes?"}]
    with client.responses.stream(model=TINY, input=question, text=form, max_output_tokens=400) as stream:
        assert set(json.loads(stream.get_final_response().output_text)) == {"yes"}
    with pytest.raises(openai.BadRequestError) as stored:
        client.responses.create(**asked, previous_response_id="resp_1")
    assert stored.value.param == "previous_response_id"


def test_a_running_job_is_paused_resumed_and_cancelled(client, training_file) -> None:
    endless = {"hyperparameters": {"max_steps": 100_000, "lora": {"rank": 4}}}
    jobs = client.fine_tuning.jobs
    created = jobs.create(model=TINY, training_file=training_file.id, extra_body={"tunesmith": endless})
    eventually(lambda: jobs.retrieve(created.id).to_dict()["tunesmith"]["state"] == "running", 60, "running")
    jobs.pause(created.id)
    eventually(lambda: jobs.retrieve(created.id).status == "paused", 60, "paused")
    assert jobs.resume(created.id).status == "queued"
    jobs.cancel(created.id)
    eventually(lambda: jobs.retrieve(created.id).status == "cancelled", 60, "cancelled")
    assert jobs.retrieve(created.id).finished_at


def test_refusals_are_the_exceptions_scripts_catch(client, job, training_file, stack: LocalStack) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.fine_tuning.jobs.retrieve("ftjob-none")
    assert missing.value.code == "fine_tune_not_found"
    assert missing.value.request_id
    with pytest.raises(openai.ConflictError) as ended:
        client.fine_tuning.jobs.cancel(job.id)
    assert ended.value.code == "job_ended"
    with pytest.raises(openai.BadRequestError) as tools:
        client.chat.completions.create(model=TINY, messages=[{"role": "user", "content": "x"}], tools=[_TOOL])
    assert tools.value.param == "tools"
    with pytest.raises(openai.BadRequestError) as unknown:
        client.fine_tuning.jobs.create(model=TINY, training_file="file-none")
    assert unknown.value.param == "training_file"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()


def test_a_tuned_model_is_deleted_at_the_end(client, job) -> None:
    assert client.models.delete(job.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError) as gone:
        client.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "x"}])
    assert gone.value.code == "model_not_found"


def _request(custom_id: str, text: str) -> dict:
    body = {"model": TINY, "messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


_TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def _sse(client: openai.OpenAI, url: str, headers: dict | None = None) -> list[tuple[int | None, str]]:
    """(id, data) of every event."""
    answer = client._client.get(url, headers={"authorization": f"Bearer {client.api_key}", **(headers or {})})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            events.append((int(fields["id"]) if "id" in fields else None, fields["data"]))
    return events
