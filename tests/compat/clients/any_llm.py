"""any-llm with its provider for OpenAI: whole and streamed."""

import json
import os

from any_llm import completion

asked = {
    "model": os.environ["MODEL"],
    "provider": "openai",
    "api_base": os.environ["OPENAI_BASE_URL"],
    "api_key": os.environ["OPENAI_API_KEY"],
    "messages": [{"role": "user", "content": "number 3"}],
    "max_tokens": 8,
    "temperature": 0,
}
whole = completion(**asked).choices[0].message.content
assert "".join(chunk.choices[0].delta.content or "" for chunk in completion(**asked, stream=True) if chunk.choices) == whole
print(json.dumps(["chat", "stream"]))
