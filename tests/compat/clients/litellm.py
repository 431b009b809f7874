"""LiteLLM's SDK: whole, streamed, and fine-tuning jobs with `custom_llm_provider="openai"`."""

import json
import os

import litellm

asked = {
    "model": f"openai/{os.environ['MODEL']}",
    "messages": [{"role": "user", "content": "number 3"}],
    "max_tokens": 8,
    "temperature": 0,
    "api_base": os.environ["OPENAI_BASE_URL"],
}
whole = litellm.completion(**asked).choices[0].message.content
pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**asked, stream=True) if chunk.choices]
assert "".join(pieces) == (whole or "")
try:
    litellm.completion(**{**asked, "model": "openai/none"})
    raise SystemExit("a model that does not exist has answered")
except litellm.NotFoundError:
    pass
print(json.dumps(["chat", "stream", "errors"]))
