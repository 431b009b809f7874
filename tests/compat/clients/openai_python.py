"""The steps that OpenAI's guides describe for fine-tuning, with the `openai` package and nothing told but base URL and key."""

import json
import os
import pathlib
import time

import openai

client = openai.OpenAI()
file = client.files.create(file=pathlib.Path(os.environ["ROWS"]), purpose="fine-tune")
assert client.files.retrieve(file.id).status == "processed"
assert file.id in [each.id for each in client.files.list(purpose="fine-tune")]
assert client.files.content(file.id).read() == pathlib.Path(os.environ["ROWS"]).read_bytes()

job = client.fine_tuning.jobs.create(
    training_file=file.id,
    model=os.environ["BASE"],
    suffix="recipe",
    method={"type": "supervised"},
    extra_body=json.loads(os.environ["EXTRA"]),
)
assert job.id in [each.id for each in client.fine_tuning.jobs.list(limit=10)]
while client.fine_tuning.jobs.retrieve(job.id).status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.2)
job = client.fine_tuning.jobs.retrieve(job.id)
assert job.status == "succeeded", job
assert job.trained_tokens > 0

events = list(client.fine_tuning.jobs.list_events(fine_tuning_job_id=job.id, limit=5))
assert len({event.id for event in events}) == len(events) > 5
checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
assert [each.step_number for each in checkpoints] == sorted((each.step_number for each in checkpoints), reverse=True)
assert checkpoints, "a job that saves checkpoints lists them"
assert client.files.content(job.result_files[0]).text.startswith("step,train_loss,")

messages = [{"role": "user", "content": "number 3"}]
asked = {"messages": messages, "max_tokens": 8, "temperature": 0}
for model in (job.fine_tuned_model, checkpoints[-1].fine_tuned_model_checkpoint):
    whole = client.chat.completions.create(model=model, **asked)
    streamed = client.chat.completions.create(model=model, stream=True, **asked)
    pieces = [chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert client.models.retrieve(model).id == model
text = client.completions.create(model=job.fine_tuned_model, prompt=["one", "two"], max_tokens=3, logprobs=1, echo=True)
assert [choice.text[:3] for choice in text.choices] == ["one", "two"]
assert text.choices[0].logprobs.token_logprobs[0] is None

schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": False}
form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
answer = client.chat.completions.create(model=os.environ["BASE"], messages=messages, max_tokens=400, response_format=form)
assert set(json.loads(answer.choices[0].message.content)) == {"yes"}

tool = {"type": "function", "function": {"name": "look", "strict": True, "parameters": schema}}
called = client.chat.completions.create(
    model=os.environ["TOOLS_MODEL"], messages=messages, max_tokens=400, tools=[tool], tool_choice="required"
)
assert called.choices[0].message.tool_calls[0].function.name == "look"

asked = {"model": job.fine_tuned_model, "max_output_tokens": 8, "temperature": 0}
whole = client.responses.create(input="number 3", **asked)
pieces = [event.delta for event in client.responses.create(input=messages, stream=True, **asked) if "delta" in event.type]
assert "".join(pieces) == whole.output_text

bodies = [{"model": os.environ["BASE"], "messages": messages, "max_tokens": 8}] * 2
place = "/v1/chat/completions"
asks = [{"custom_id": str(n), "method": "POST", "url": place, "body": body} for n, body in enumerate(bodies)]
requests = client.files.create(file=("asks.jsonl", "\n".join(map(json.dumps, asks)).encode()), purpose="batch")
batch = client.batches.create(input_file_id=requests.id, endpoint=place, completion_window="24h")
while batch.status not in ("completed", "failed", "cancelled"):
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)
answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
assert [each["custom_id"] for each in answers] == ["0", "1"]
assert batch.id in [each.id for each in client.batches.list(limit=5)]

criterion = {"type": "string_check", "name": "same", "operation": "ilike"}
criterion |= {"input": "{{sample.output_text}}", "reference": "{{item.known}}"}
schema = {"type": "object", "properties": {"known": {"type": "string"}}, "required": ["known"]}
config = {"type": "custom", "item_schema": schema, "include_sample_schema": True}
measure = client.evals.create(name="same", data_source_config=config, testing_criteria=[criterion])
items = [{"item": {"known": known}} for known in ("e", "q")]
template = {"type": "template", "template": [{"role": "user", "content": "number {{item.known}}"}]}
source = {"type": "completions", "model": os.environ["BASE"], "input_messages": template}
source |= {"source": {"type": "file_content", "content": items}, "sampling_params": {"max_completion_tokens": 8}}
run = client.evals.runs.create(measure.id, name="first", data_source=source)
while run.status not in ("completed", "failed", "canceled"):
    time.sleep(0.2)
    run = client.evals.runs.retrieve(run.id, eval_id=measure.id)
assert run.status == "completed", run
assert run.result_counts.total == run.result_counts.passed + run.result_counts.failed == 2
told = list(client.evals.runs.output_items.list(run.id, eval_id=measure.id, limit=1))
assert [each.datasource_item for each in told] == [each["item"] for each in items]
assert client.evals.delete(measure.id).deleted

for error, attempt in (
    (openai.NotFoundError, lambda: client.fine_tuning.jobs.retrieve("ftjob-none")),
    (openai.ConflictError, lambda: client.fine_tuning.jobs.cancel(job.id)),
    (openai.BadRequestError, lambda: client.chat.completions.create(model=os.environ["BASE"], messages=[])),
    (openai.AuthenticationError, lambda: client.with_options(api_key="wrong").models.list()),
):
    try:
        attempt()
        raise SystemExit(f"{error.__name__} was not raised")
    except error as caught:
        assert caught.request_id
assert client.models.delete(job.fine_tuned_model).deleted
assert client.files.delete(file.id).deleted
did = ["files", "jobs", "events", "checkpoints", "chat", "stream", "completions", "responses", "batches", "evals"]
print(json.dumps([*did, "structured", "tools", "errors"]))
