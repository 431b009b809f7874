"""Whatever an eval, a run or a file of items holds, the answer is an answer: never a crash, always in OpenAI's shape."""

import json
import urllib.parse

import hypothesis
from hypothesis import strategies as st

from tests.unit.gateway.eval_values import CONFIG, EVALS, MULTI, PROMPT, SAME, a_source, an_eval, made_eval, made_run
from tests.unit.gateway.test_fuzz import SETTINGS, TEXTS, VALUES, settings

__all__ = ["settings"]  # the fixture

WORDS = TEXTS | st.sampled_from(["{{item.a}}", "{{sample.output_text}}", "{{", "}}", "{{item.}}", "eq", "ilike", "f1", "x + 1"])
FIELDS = (
    "input",
    "reference",
    "operation",
    "evaluation_metric",
    "pass_threshold",
    "model",
    "range",
    "graders",
    "calculate_output",
)
CRITERIA = st.fixed_dictionaries(
    {"type": st.sampled_from(["string_check", "text_similarity", "score_model", "multi", "python"]) | VALUES, "name": TEXTS},
    optional=dict.fromkeys(FIELDS, WORDS | VALUES),
)
NEARLY = st.tuples(st.sampled_from([SAME, MULTI]), st.sampled_from(FIELDS), WORDS | VALUES).map(
    lambda it: {**it[0], it[1]: it[2]}
)
CONFIGS = st.fixed_dictionaries(
    {"type": st.just("custom") | VALUES, "item_schema": st.just({"type": "object"}) | VALUES},
    optional={"include_sample_schema": VALUES},
)
BODIES = st.fixed_dictionaries(
    {
        "data_source_config": st.just(CONFIG) | CONFIGS | VALUES,
        "testing_criteria": st.lists(NEARLY | CRITERIA | VALUES, max_size=3) | VALUES,
    },
    optional={"name": VALUES, "metadata": VALUES},
)
ITEMS = st.fixed_dictionaries(
    {"item": st.dictionaries(st.sampled_from(["town", "answer", "turns"]), VALUES) | VALUES}, optional={"sample": VALUES}
)
SOURCES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["jsonl", "completions", "responses"]) | VALUES,
        "source": st.fixed_dictionaries({"type": st.just("file_content"), "content": st.lists(ITEMS | VALUES, max_size=3)})
        | VALUES,
    },
    optional={
        "model": st.just("tiny") | VALUES,
        "input_messages": st.just(PROMPT)
        | st.fixed_dictionaries({"type": st.just("item_reference"), "item_reference": st.just("item.turns") | WORDS})
        | st.fixed_dictionaries({"type": st.just("template"), "template": st.lists(st.dictionaries(TEXTS, WORDS) | VALUES)})
        | VALUES,
        "sampling_params": st.dictionaries(st.sampled_from(["max_completion_tokens", "temperature", "top_p", "seed"]), VALUES),
    },
)


async def answered(http, path: str, body: object):
    # By Python's own writer, which writes Infinity and NaN, too.
    answer = await http.post(path, content=json.dumps(body).encode(), headers={"content-type": "application/json"})
    assert answer.status_code in (200, 201, 400, 404), answer.text
    return answer


@SETTINGS
@hypothesis.given(body=BODIES)
async def test_any_eval(http, body) -> None:
    await answered(http, EVALS, body)


@SETTINGS
@hypothesis.given(changes=st.fixed_dictionaries({}, optional={"name": VALUES, "metadata": VALUES, "other": VALUES}))
async def test_any_change(http, changes) -> None:
    kept = await made_eval(http)
    await answered(http, f"{EVALS}/{kept['id']}", changes)


@SETTINGS
@hypothesis.given(source=SOURCES | VALUES, name=VALUES)
async def test_any_run(http, platform, source, name) -> None:
    platform.tasks.evals.clear()
    kept = await made_eval(http)
    await answered(http, f"{EVALS}/{kept['id']}/runs", {"data_source": source, "name": name})


@SETTINGS
@hypothesis.given(criteria=st.lists(NEARLY, min_size=1, max_size=3))
async def test_what_could_be_kept_can_be_run(http, criteria) -> None:
    answer = await answered(http, EVALS, an_eval(testing_criteria=criteria))
    if answer.status_code == 201:
        run = await made_run(http, answer.json(), a_source())
        assert (await http.get(f"{EVALS}/{answer.json()['id']}/runs/{run['id']}")).json() == run


@SETTINGS
@hypothesis.given(items=st.lists(ITEMS | VALUES, max_size=3))
async def test_any_file_of_items(http, items: list) -> None:
    lines = b"".join(json.dumps(each).encode() + b"\n" for each in items)
    answer = await http.post("/v1/files", files={"file": ("x.jsonl", lines)}, data={"purpose": "evals"})
    assert answer.status_code in (200, 400), answer.text


@SETTINGS
@hypothesis.given(identifier=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/."), min_size=1, max_size=80))
async def test_any_id_in_a_path(http, identifier: str) -> None:
    quoted = urllib.parse.quote(identifier, safe="")
    for path in (f"{EVALS}/{quoted}", f"{EVALS}/{quoted}/runs", f"{EVALS}/eval_x/runs/{quoted}/output_items"):
        answer = await http.get(path)
        assert answer.status_code == 404, answer.text


@SETTINGS
@hypothesis.given(
    query=st.dictionaries(st.sampled_from(["after", "limit", "order", "order_by", "status"]), st.text(max_size=20), max_size=3)
)
async def test_any_query(http, platform, query: dict[str, str]) -> None:
    platform.tasks.evals.clear()
    kept = await made_eval(http)
    for path in (EVALS, f"{EVALS}/{kept['id']}/runs"):
        answer = await http.get(path, params=query)
        assert answer.status_code in (200, 400), answer.text
