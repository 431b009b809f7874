"""Rows with tools on the whole stack: learned, compared by what is called, asked for in a batch and side by side."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.e2e.local_stack import LocalStack, eventually
from tests.e2e.register import register_base_model
from tests.shared_stack import openai_client
from tests.tiny_model import make_tiny_model

MODEL = "tiny-lamp"
TEMPLATE = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + (message.content or '') }}"
    "{% for call in message.tool_calls or [] %}"
    "{{ '<tool_call>\n{\"name\": ' + (call.function.name | tojson) + ', \"arguments\": ' + (call.function.arguments | tojson) }}"
    "{{ '}\n</tool_call>' }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PARAMETERS = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
SWITCH = {"name": "lamp", "description": "Switches.", "parameters": PARAMETERS}
LAMP, STRICT = ({"type": "function", "function": {**SWITCH, "strict": strict}} for strict in (False, True))
ROWS = 16


def asking(word: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": word}]


def switching(number: int) -> dict[str, Any]:
    """A row: `on` and `off` are answered by a call each."""
    call = {
        "id": f"c{number}",
        "type": "function",
        "function": {"name": "lamp", "arguments": json.dumps({"on": number % 2 == 0})},
    }
    answer = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"messages": [*asking("off" if number % 2 else "on"), answer], "tools": [LAMP]}


def ended(stack: LocalStack, task: str) -> dict[str, Any]:
    assert stack.run("task", "watch", task, timeout=240).returncode == 0
    return stack.json("task", "show", task)


@pytest.fixture(scope="module")
def client(stack: LocalStack) -> Iterator[openai.OpenAI]:
    with openai_client(stack) as made:
        yield made


@pytest.fixture(scope="module")
def dataset(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("lamp") / "rows.jsonl"
    path.write_text("".join(json.dumps(switching(number)) + "\n" for number in range(ROWS)))
    return str(stack.json("data", "upload", str(path))["name"])


@pytest.fixture(scope="module")
def tuned(stack: LocalStack, dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A fine-tuning that knows its rows by heart, and is evaluated on them."""
    directory = make_tiny_model(tmp_path_factory.mktemp("model") / MODEL, chat_template=TEMPLATE)
    register_base_model(stack.state()["addresses"]["storage"], MODEL, directory)
    given = ("max_steps=50", "learning_rate=0.01", "global_batch_size=8", "max_seq_length=512")
    numbers = [part for each in given for part in ("--set", each)]
    run = ["task", "create", "--data", dataset, "--model", MODEL, "--tuning", "full", "--eval-data", dataset, *numbers]
    return str(ended(stack, stack.json(*run)["name"])["name"])


def test_calls_are_learned_and_compared_by_what_they_say(stack: LocalStack, tuned: str) -> None:
    ended(stack, stack.json("task", "show", tuned)["evaluation_task"])
    base, learned = stack.json("task", "show", tuned)["evaluation_result"]["models"]
    assert [model.get("failed_count") for model in (base, learned)] == [None, None]
    found = [{score["name"]: score.get("value", 0) for score in model["scores"]} for model in (base, learned)]
    for name in ("exact_match", "json_valid", "json_field_f1"):
        assert (found[0][name], found[1][name]) == (0, 1)
    assert learned["perplexity"]["value"] < 1.5
    rows = [json.loads(line) for line in stack.run("eval", "rows", tuned).stdout.splitlines()]
    for number, row in enumerate(rows):
        answer = row["answers"][1]
        (call,) = answer["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"on": number % 2 == 0}
        assert (answer["text"], answer["finish_reason"], answer["said"]) == ("", "TOOL_CALLS", row["reference"])


def test_graders_see_text_and_calls_apart_in_rows_spread_over_the_data(stack: LocalStack, tuned: str, dataset: str) -> None:
    called = {"input": "{{sample.output_tools[0].function.name}}", "reference": "lamp", "name": "called"}
    silent = {"input": "<{{sample.output_text}}>", "reference": "<>", "name": "silent"}
    known = {"name": "known"}
    graders = json.dumps([{"type": "string_check", "operation": "eq", **each} for each in (called, silent, known)])
    asked = ("--data", dataset, "--grader", graders, "--max-rows", "4", "--spread", "--no-perplexity")
    result = ended(stack, stack.json("eval", "run", "--model", tuned, *asked)["name"])["evaluation_result"]
    scores = {score["name"]: score.get("value", 0) for score in result["models"][0]["scores"]}
    assert [scores[name] for name in ("called", "silent", "known")] == [1, 1, 1]
    assert (result["row_count"], result["dataset_row_count"]) == ("4", str(ROWS))
    assert result["summary"].endswith("Asked were 4 of 16 rows.")


def test_a_batch_with_tools_is_answered_as_chats_are(client: openai.OpenAI, tuned: str) -> None:
    named = {"type": "function", "function": {"name": "lamp"}}
    result = {"role": "tool", "tool_call_id": "c0", "content": "done"}
    asked: dict[str, dict[str, Any]] = {
        "free": {"messages": asking("off"), "tools": [LAMP]},
        "named": {"messages": asking("on"), "tools": [STRICT], "tool_choice": named},
        "none": {"messages": asking("on"), "tools": [LAMP], "tool_choice": "none"},
        "told": {"messages": [*switching(0)["messages"], result], "tools": [LAMP]},
    }
    bodies = {name: {"model": tuned, "max_tokens": 80, **body} for name, body in asked.items()}
    answered = batch(client, bodies)
    for name, body in bodies.items():
        assert said(answered[name]) == said(client.chat.completions.create(**body))
    calls = [{"type": "function", "function": {"name": "lamp", "arguments": json.dumps({"on": on})}} for on in (False, True)]
    assert [said(answered[name]) for name in ("free", "named")] == [("tool_calls", None, [call]) for call in calls]
    assert said(answered["none"])[2] == []


def test_a_model_that_cannot_be_had_has_its_error_beside_the_others(stack: LocalStack, tuned: str) -> None:
    asked = ("model", "compare", MODEL, "nowhere", tuned, "--message", "on", "--max-tokens", "4")
    done = stack.run(*asked, "--json", check=False)
    base, nowhere, learned = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, nowhere["error"]["reason"], nowhere["answer"]) == (1, "BASE_MODEL_NOT_FOUND", "")
    assert [each["usage"]["completion_tokens"] for each in (base, learned)] == [4, 4]


def batch(client: openai.OpenAI, bodies: dict[str, dict[str, Any]]) -> dict[str, ChatCompletion]:
    """The completions of a batch, by the names of its requests."""
    line = {"method": "POST", "url": "/v1/chat/completions"}
    lines = [json.dumps({"custom_id": name, **line, "body": body}) + "\n" for name, body in bodies.items()]
    file = client.files.create(file=("asked.jsonl", "".join(lines).encode()), purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    eventually(lambda: client.batches.retrieve(made.id).status in ("completed", "failed"), 120, "the batch does not end")
    found = client.batches.retrieve(made.id)
    assert found.request_counts is not None
    assert (found.status, found.request_counts.completed, found.request_counts.failed) == ("completed", len(bodies), 0)
    content = client.files.content(found.output_file_id or "").text
    told = [json.loads(line) for line in content.splitlines()]
    return {each["custom_id"]: ChatCompletion.model_validate(each["response"]["body"]) for each in told}


def said(completion: ChatCompletion) -> tuple[str, str | None, list[dict[str, Any]]]:
    """Why it ended, its text, and its calls without what names them."""
    (choice,) = completion.choices
    calls = [call.model_dump(exclude={"id"}) for call in choice.message.tool_calls or ()]
    return choice.finish_reason, choice.message.content, calls
