"""The steps of OpenAI's guides to fine-tuning as a script for OpenAI has them: with its model, and without a word about us.

Two files, a job with a validation file, its state until it ends, its events, its checkpoints, the model, and a question to it.
"""

import json
import pathlib
import tempfile
import time

from openai import OpenAI

client = OpenAI()


def upload(name: str, count: int) -> str:
    path = pathlib.Path(tempfile.mkdtemp()) / name
    system = {"role": "system", "content": "Name the kind."}
    turns = [[system, {"role": "user", "content": f"recipe {n}"}, {"role": "assistant", "content": "soup"}] for n in range(count)]
    path.write_text("\n".join(json.dumps({"messages": messages}) for messages in turns))
    with open(path, "rb") as file:
        return client.files.create(file=file, purpose="fine-tune").id


training, validation = upload("recipes-train.jsonl", 20), upload("recipes-validation.jsonl", 10)
made = client.fine_tuning.jobs.create(
    training_file=training, validation_file=validation, model="gpt-4o-mini-2024-07-18", suffix="recipe-ner"
)
while (job := client.fine_tuning.jobs.retrieve(made.id)).status not in ("succeeded", "failed", "cancelled"):
    time.sleep(0.2)
assert (job.status, job.error) == ("succeeded", None), job
assert job.trained_tokens > 0
messages = [event.message for event in reversed(client.fine_tuning.jobs.list_events(made.id).data)]
assert messages[-1].startswith("Succeeded"), messages
for checkpoint in client.fine_tuning.jobs.checkpoints.list(made.id).data:
    assert checkpoint.fine_tuning_job_id == job.id
assert job.fine_tuned_model.startswith("ft:gpt-4o-mini-2024-07-18:"), job
asked = [{"role": "system", "content": "Name the kind."}, {"role": "user", "content": "recipe 3"}]
answer = client.chat.completions.create(model=job.fine_tuned_model, messages=asked, temperature=0, max_tokens=5)
assert answer.choices[0].message.role == "assistant"
