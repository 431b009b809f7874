"""inspect-ai: an evaluation of its own with a dataset, a solver and a scorer, asked through its OpenAI provider."""

import json
import os

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate

samples = [Sample(input=f"number {number}", target=str(number % 3)) for number in range(4)]
[log] = eval(
    Task(dataset=samples, solver=generate(), scorer=includes()),
    model=f"openai/{os.environ['MODEL']}",
    model_args={"responses_api": False},
    temperature=0,
    max_tokens=4,
    display="none",
    log_dir="logs",
)
assert log.status == "success", log.error
assert log.results is not None
assert log.results.completed_samples == 4
assert all(sample.output.choices for sample in log.samples or [])
print(json.dumps(["chat"]))
