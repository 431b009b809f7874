"""lm-eval: a task of our own whose questions /v1/completions continues; log-likelihoods need a tokenizer on the client's side."""

import json
import os
import pathlib

import lm_eval
from lm_eval.tasks import TaskManager

place = pathlib.Path.cwd() / "tasks"
place.mkdir(exist_ok=True)
rows = [{"question": f"number {n}", "answer": str(n % 3)} for n in range(4)]
(place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
(place / "numbers.yaml").write_text(
    json.dumps(
        {
            "task": "numbers",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(place / "rows.jsonl")}},
            "test_split": "test",
            "output_type": "generate_until",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4, "temperature": 0},
            "doc_to_text": "{{question}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "exact_match"}],
        }
    )
)
model = {
    "model": os.environ["MODEL"],
    "base_url": f"{os.environ['OPENAI_BASE_URL']}/completions",
    "tokenizer_backend": "none",
    "tokenized_requests": False,
    "num_concurrent": 1,
}
found = lm_eval.simple_evaluate(
    model="local-completions", model_args=model, tasks=["numbers"], task_manager=TaskManager(include_path=str(place))
)
assert 0 <= found["results"]["numbers"]["exact_match,none"] <= 1
print(json.dumps(["completions"]))
