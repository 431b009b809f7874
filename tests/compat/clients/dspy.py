"""DSPy: a language model of its own, whole and streamed, and what it says when there is no such model."""

import json
import os

import dspy

common = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"], "cache": False, "num_retries": 0}
model = dspy.LM(f"openai/{os.environ['MODEL']}", temperature=0, max_tokens=8, **common)
[answer] = model(messages=[{"role": "user", "content": "number 3"}])
assert (answer if isinstance(answer, str) else answer["text"]) is not None
try:
    dspy.LM("openai/none", max_tokens=8, **common)("number 3")
except Exception as error:  # its own wrapping differs by version; what it wraps says why
    assert "none" in str(error), error
else:
    raise SystemExit("a model that does not exist has answered")
print(json.dumps(["chat", "errors"]))
