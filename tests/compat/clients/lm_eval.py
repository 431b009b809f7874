"""lm-eval: a multiple-choice task of our own, judged by the log-probabilities of /v1/completions with `echo`."""

import json
import os
import pathlib

import lm_eval
from lm_eval.tasks import TaskManager

place = pathlib.Path.cwd() / "tasks"
place.mkdir(exist_ok=True)
rows = [{"question": f"number {n}", "choices": ["0", "1", "2"], "answer": n % 3} for n in range(4)]
(place / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
(place / "numbers.yaml").write_text(
    json.dumps(
        {
            "task": "numbers",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(place / "rows.jsonl")}},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{question}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "metric_list": [{"metric": "acc"}],
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
assert 0 <= found["results"]["numbers"]["acc,none"] <= 1
print(json.dumps(["completions"]))
