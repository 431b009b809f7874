"""aisuite with its provider for OpenAI."""

import json
import os

import aisuite

client = aisuite.Client({"openai": {"base_url": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"]}})
asked = {"messages": [{"role": "user", "content": "number 3"}], "max_tokens": 8, "temperature": 0}
answer = client.chat.completions.create(model=f"openai:{os.environ['MODEL']}", **asked)
assert isinstance(answer.choices[0].message.content, str)
assert answer.usage.total_tokens > 0
print(json.dumps(["chat"]))
