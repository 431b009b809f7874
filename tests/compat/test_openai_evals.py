"""The `openai` package keeps evals here, runs them over a model and over recorded answers, and reads what came of every item."""

import json
import pathlib

import openai
import pytest
from openai.types.evals import RunRetrieveResponse

from tests.e2e.local_stack import eventually
from tests.shared_stack import TINY

pytestmark = pytest.mark.e2e

CONFIG = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    "include_sample_schema": True,
}
HAS = {
    "type": "string_check",
    "name": "has the word",
    "operation": "ilike",
    "input": "{{sample.output_text}}",
    "reference": "{{item.word}}",
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": TINY,
    "input": [{"role": "user", "content": "Rate {{sample.output_text}}"}],
    "range": [0, 1],
    "pass_threshold": 0,
}
ITEMS = [{"item": {"word": f"word{number}"}} for number in range(1, 6)]
PROMPT = {"type": "template", "template": [{"role": "user", "content": "Say {{item.word}}."}]}


@pytest.fixture
def kept(client):
    made = client.evals.create(name="words", data_source_config=CONFIG, testing_criteria=[HAS], metadata={"team": "a"})
    yield made
    assert client.evals.delete(made.id).deleted


def ended(client: openai.OpenAI, run) -> RunRetrieveResponse:
    def status() -> bool:
        return client.evals.runs.retrieve(run.id, eval_id=run.eval_id).status in ("completed", "failed", "canceled")

    eventually(status)
    return client.evals.runs.retrieve(run.id, eval_id=run.eval_id)


def test_an_eval_is_kept_listed_changed_and_forgotten(client, kept) -> None:
    assert client.evals.retrieve(kept.id).to_dict() == kept.to_dict()
    assert kept.testing_criteria[0].name == "has the word"
    assert kept.id in [each.id for each in client.evals.list(limit=1)]
    assert client.evals.update(kept.id, name="other words").name == "other words"
    with pytest.raises(openai.BadRequestError) as caught:
        client.evals.create(data_source_config=CONFIG, testing_criteria=[{"type": "python", "name": "p", "source": "1"}])
    assert caught.value.param == "testing_criteria[0].type"
    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve("eval_none")


def test_a_model_is_measured_by_an_eval(client, tmp_path: pathlib.Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    file = client.files.create(file=items, purpose="evals")
    assert [json.loads(line) for line in client.files.content(file.id).text.splitlines()] == ITEMS
    kept = client.evals.create(name="judged", data_source_config=CONFIG, testing_criteria=[HAS, JUDGE])
    source = {"type": "completions", "source": {"type": "file_id", "id": file.id}, "model": TINY, "input_messages": PROMPT}
    run = client.evals.runs.create(kept.id, name="first", data_source={**source, "sampling_params": {"max_completion_tokens": 4}})
    assert run.status in ("queued", "in_progress")
    done = ended(client, run)
    assert (done.status, done.model, done.result_counts.total) == ("completed", TINY, 5)
    counts = done.result_counts
    assert counts.passed + counts.failed + counts.errored == 5
    assert [each.testing_criteria for each in done.per_testing_criteria_results] == ["has the word", "judge"]
    assert 0 < done.per_model_usage[0].completion_tokens <= 20
    told = list(client.evals.runs.output_items.list(run.id, eval_id=kept.id, limit=2))
    assert [item.datasource_item for item in told] == [item["item"] for item in ITEMS]
    assert [item.sample.input[0].content for item in told] == [f"Say word{number}." for number in range(1, 6)]
    again = client.evals.runs.output_items.retrieve(told[3].id, eval_id=kept.id, run_id=run.id)
    assert again.to_dict() == told[3].to_dict()
    assert [each.to_dict() for each in client.evals.runs.list(kept.id, status="completed")] == [done.to_dict()]
    with pytest.raises(openai.ConflictError):
        client.evals.runs.cancel(run.id, eval_id=kept.id)
    other = client.evals.runs.create(kept.id, data_source=source)
    client.evals.runs.cancel(other.id, eval_id=kept.id)
    assert ended(client, other).status == "canceled"
    assert client.evals.runs.delete(run.id, eval_id=kept.id).deleted
    assert client.files.delete(file.id).deleted


def test_recorded_answers_are_graded(client, kept) -> None:
    answers = ["word1", "I say Word2!", "nothing"]
    content = [{**item, "sample": {"output_text": text}} for item, text in zip(ITEMS, answers, strict=False)]
    run = client.evals.runs.create(kept.id, data_source={"type": "jsonl", "source": {"type": "file_content", "content": content}})
    done = ended(client, run)
    assert (done.status, done.result_counts.passed, done.result_counts.failed) == ("completed", 2, 1)
    (failed,) = client.evals.runs.output_items.list(run.id, eval_id=kept.id, status="fail")
    assert (failed.datasource_item, failed.results[0].passed) == ({"word": "word3"}, False)
