"""`llm` on the command line, told of the tuned model by its own file of models."""

import json
import os
import pathlib
import subprocess
import sys

LLM = str(pathlib.Path(sys.executable).with_name("llm"))
place = pathlib.Path(os.environ["LLM_USER_PATH"])
place.mkdir(parents=True, exist_ok=True)
entry = {"model_id": "tuned", "model_name": os.environ["MODEL"], "api_base": os.environ["OPENAI_BASE_URL"]}
entry["api_key_name"] = "ours"
(place / "extra-openai-models.yaml").write_text(json.dumps([entry]))  # JSON is YAML
(place / "keys.json").write_text(json.dumps({"ours": os.environ["OPENAI_API_KEY"]}))


def run(*arguments: str) -> str:
    command = [LLM, "-m", "tuned", "-o", "max_tokens", "8", "-o", "temperature", "0", *arguments, "number 3"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


assert run("--no-stream") == run()
print(json.dumps(["chat", "stream"]))
