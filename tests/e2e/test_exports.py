"""What was learned leaves in other forms: as a merged model that answers as the adapter does, and as GGUF in the registry."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.e2e.conftest import TINY
from tests.e2e.local_stack import LocalStack

pytestmark = pytest.mark.e2e

QUESTION = ("--message", "number 3", "--max-tokens", "8", "--seed", "1")
# -I: neither this project nor its environment's variables are in reach of it.
PLAIN = """
import json, sys
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], use_safetensors=True)
ids = tokenizer.apply_chat_template(
    [{"role": "user", "content": "number 3"}], add_generation_prompt=True, return_tensors="pt", return_dict=False
)
answer = model.generate(ids, max_new_tokens=8, do_sample=False)[0][ids.shape[1]:]
ours = [name for name in sys.modules if name.split(".")[0] in ("services", "tunesmith")]
print(json.dumps([tokenizer.decode(answer, skip_special_tokens=True), ours]))
"""


@pytest.fixture(scope="module")
def adapter(stack: LocalStack, dataset: str) -> dict:
    """The artifact of a short fine-tuning."""
    numbers = ("--set", "max_steps=4", "--set", "global_batch_size=8", "--set", "lora.rank=4", "--set", "learning_rate=0.02")
    task = stack.json("task", "create", "--name", "to export", "--model", TINY, "--data", dataset, *numbers)
    stack.run("task", "watch", task["name"])
    return stack.json("artifact", "show", stack.json("task", "show", task["name"])["artifact"])


@pytest.fixture(scope="module")
def merged(stack: LocalStack, adapter: dict) -> dict:
    """The version that `artifact export --format merged` has made."""
    return stack.json("artifact", "export", adapter["name"], "mail", "--format", "merged", "--alias", "champion", timeout=300)


def answer(stack: LocalStack, model: str) -> str:
    return str(stack.json("model", "chat", model, *QUESTION)["message"]["content"])


def test_a_merged_model_answers_as_the_adapter_does(stack: LocalStack, adapter: dict, merged: dict) -> None:
    expected = answer(stack, adapter["name"])
    assert answer(stack, merged["artifact"]) == expected
    assert answer(stack, "models/mail@champion") == expected


def test_the_version_says_what_it_is_and_where_it_came_from(stack: LocalStack, adapter: dict, merged: dict) -> None:
    assert (merged["format"], merged["manifest"]["parent"]) == ("MERGED", adapter["name"])
    manifest = merged["manifest"]
    assert manifest["dataset_sha256"] == adapter["manifest"]["dataset_sha256"]
    assert manifest["metrics"]["export_greedy_agreement"] == 1.0
    assert 0 <= manifest["metrics"]["export_logit_difference_share"] < 1e-4
    assert {file["path"] for file in manifest["files"]} >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    task = stack.json("task", "show", manifest["task"])
    assert (task["spec"]["export"], task["state"]) == ({"artifact": adapter["name"], "format": "MERGED"}, "SUCCEEDED")
    assert (task["progress"]["step"], task["progress"]["total_steps"]) == ("4", "4")
    assert [each["name"] for each in stack.json_lines("task", "ls", "--kind", "export") if each["name"] == task["name"]]


def test_plain_transformers_load_it_without_us(stack: LocalStack, adapter: dict, merged: dict, tmp_path: pathlib.Path) -> None:
    stack.run("registry", "download", "models/mail@champion", str(tmp_path / "mail"))
    assert not [path for path in (tmp_path / "mail").iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl", ".py")]
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(tmp_path / "mail")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    text, ours = json.loads(done.stdout.splitlines()[-1])
    assert ours == []
    assert text == answer(stack, adapter["name"])


def test_a_merged_model_becomes_gguf_and_is_no_model_to_chat_with(stack: LocalStack, merged: dict) -> None:
    version = stack.json("artifact", "export", merged["artifact"], "mail", "--format", "gguf", timeout=300)
    assert version["format"] == "GGUF"
    assert {file["path"] for file in version["manifest"]["files"]} == {"README.md", "model-F16.gguf"}
    refused = stack.run("model", "chat", version["artifact"], *QUESTION, check=False)
    assert refused.returncode == 1
    assert "which cannot answer" in refused.stderr
    rows = stack.run("registry", "show", "mail").stdout
    assert "merged" in rows
    assert "gguf" in rows


def test_the_same_export_again_starts_no_task(stack: LocalStack, adapter: dict, merged: dict) -> None:
    before = len(stack.json_lines("task", "ls", "--kind", "export"))
    version = stack.json("artifact", "export", adapter["name"], "again", "--format", "merged")
    assert version["artifact"] == merged["artifact"]
    assert len(stack.json_lines("task", "ls", "--kind", "export")) == before
