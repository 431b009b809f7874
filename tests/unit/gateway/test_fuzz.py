"""Whatever a body holds, the answer is an answer: never a crash, always in OpenAI's shape (the client of the tests checks it)."""

import dataclasses
import json
import urllib.parse

import hypothesis
import pytest
from hypothesis import strategies as st

from services.gateway import batch_request, identifiers, job_request

FILE = identifiers.file_id("datasets/" + "0" * 32)
TUNED = identifiers.tuned_model_id("tiny", "org", "", "tasks/" + "0" * 32)
TEXTS = st.text(max_size=20) | st.sampled_from(
    ["auto", "tiny", FILE, TUNED, "ft:", "user", "assistant", "dpo", "\0", "supervised"]
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, -1, 2**31, 2**63, 10**400])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
HYPERPARAMETERS = st.dictionaries(
    st.sampled_from(["n_epochs", "batch_size", "learning_rate_multiplier", "beta"]), VALUES, max_size=3
)
METHODS = st.fixed_dictionaries({}, optional={"type": TEXTS, "dpo": st.fixed_dictionaries({"hyperparameters": HYPERPARAMETERS})})
OURS = st.dictionaries(st.sampled_from(job_request._OURS), VALUES, max_size=4)
JOBS = st.fixed_dictionaries(
    {"model": st.just("tiny") | VALUES, "training_file": st.just(FILE) | VALUES},
    optional={
        **dict.fromkeys(("validation_file", "suffix", "seed", "metadata", "integrations", "other"), VALUES),
        "hyperparameters": HYPERPARAMETERS | VALUES,
        "method": METHODS | VALUES,
        "tunesmith": OURS | VALUES,
    },
)
MESSAGES = st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS | VALUES}), max_size=3)
CHAT_FIELDS = (
    "temperature",
    "top_p",
    "max_tokens",
    "seed",
    "stop",
    "n",
    "stream_options",
    "tools",
    "response_format",
    "logprobs",
)
CHATS = st.fixed_dictionaries(
    {"model": st.just("tiny") | VALUES, "messages": MESSAGES | VALUES}, optional=dict.fromkeys(CHAT_FIELDS, VALUES)
)
TEXTS_TO_CONTINUE = st.fixed_dictionaries(
    {"model": st.just("tiny") | VALUES, "prompt": TEXTS | st.lists(st.integers(), max_size=3) | VALUES},
    optional=dict.fromkeys(("max_tokens", "n", "logprobs", "echo", "best_of", "suffix", "stop", "stream_options"), VALUES),
)
RESPONSE_FIELDS = ("instructions", "max_output_tokens", "temperature", "metadata", "store", "truncation", "tool_choice")
RESPONSES = st.fixed_dictionaries(
    {
        "model": st.just("tiny") | VALUES,
        "input": TEXTS | VALUES | st.lists(st.fixed_dictionaries({"role": TEXTS, "content": TEXTS | VALUES}), max_size=3),
    },
    optional=dict.fromkeys(RESPONSE_FIELDS, VALUES)
    | {"text": st.fixed_dictionaries({"format": VALUES | st.fixed_dictionaries({"type": TEXTS}, optional={"schema": VALUES})})},
)
REQUESTS = st.fixed_dictionaries(
    {"custom_id": TEXTS | VALUES, "method": st.just("POST") | VALUES, "url": st.just(batch_request.ENDPOINT) | VALUES},
    optional={"body": CHATS | VALUES},
)
BATCHES = st.fixed_dictionaries(
    {},
    optional={
        "input_file_id": st.just(FILE) | VALUES,
        "endpoint": st.just(batch_request.ENDPOINT) | VALUES,
        "completion_window": st.just("24h") | VALUES,
        "metadata": VALUES,
    },
)
UPLOADS = st.fixed_dictionaries({"filename": VALUES, "purpose": st.just("fine-tune") | VALUES, "bytes": VALUES})
SETTINGS = hypothesis.settings(
    max_examples=100, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def settings(settings):
    """Without a limit of the rate: examples come as fast as they can."""
    return dataclasses.replace(settings, requests_per_second=0.0, address_requests_per_second=0.0)


async def answered(http, path: str, body: object) -> None:
    answer = await http.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 400, 404), answer.text


@SETTINGS
@hypothesis.given(body=JOBS)
async def test_any_job(http, body) -> None:
    await answered(http, "/v1/fine_tuning/jobs", body)


@SETTINGS
@hypothesis.given(body=CHATS)
async def test_any_chat(http, body) -> None:
    await answered(http, "/v1/chat/completions", body)


@SETTINGS
@hypothesis.given(body=TEXTS_TO_CONTINUE)
async def test_any_text_to_continue(http, body) -> None:
    await answered(http, "/v1/completions", body)


@SETTINGS
@hypothesis.given(body=RESPONSES)
async def test_any_response(http, body) -> None:
    await answered(http, "/v1/responses", body)


@SETTINGS
@hypothesis.given(body=BATCHES)
async def test_any_batch(http, body) -> None:
    await answered(http, "/v1/batches", body)


@SETTINGS
@hypothesis.given(requests=st.lists(REQUESTS | VALUES, max_size=3))
async def test_any_file_of_requests(http, requests: list) -> None:
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in requests)
    answer = await http.post("/v1/files", files={"file": ("x.jsonl", lines)}, data={"purpose": "batch"})
    assert answer.status_code in (200, 400), answer.text


@SETTINGS
@hypothesis.given(body=UPLOADS)
async def test_any_upload(http, body) -> None:
    await answered(http, "/v1/uploads", body)


@pytest.mark.parametrize("path", ["/v1/fine_tuning/jobs", "/v1/chat/completions", "/v1/uploads"])
async def test_half_a_character_is_refused(http, path: str) -> None:
    body = b'{"model": "\\ud800", "messages": [{"role": "user", "content": "\\uD800"}]}'
    answer = await http.post(path, content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")


@SETTINGS
@hypothesis.given(identifier=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/."), min_size=1, max_size=80))
async def test_any_id_in_a_path(http, identifier: str) -> None:
    for path in (
        "/v1/files/{}",
        "/v1/fine_tuning/jobs/{}",
        "/v1/fine_tuning/jobs/{}/events",
        "/v1/models/ft:{}",
        "/v1/batches/{}",
    ):
        answer = await http.get(path.format(urllib.parse.quote(identifier, safe="")))
        assert answer.status_code == 404, answer.text


@SETTINGS
@hypothesis.given(
    query=st.dictionaries(
        st.sampled_from(["after", "limit", "order", "metadata", "metadata[a]", "purpose"]), st.text(max_size=20)
    )
)
async def test_any_query(http, query: dict[str, str]) -> None:
    for path in ("/v1/files", "/v1/fine_tuning/jobs", "/v1/batches"):
        answer = await http.get(path, params=query)
        assert answer.status_code in (200, 400, 404), answer.text
