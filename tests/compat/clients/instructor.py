"""instructor: typed answers by a JSON schema and by a tool."""

import json
import os

import instructor
import openai
from pydantic import BaseModel


class Answer(BaseModel):
    """What is to be said."""

    yes: bool


asked = {"messages": [{"role": "user", "content": "number 3"}], "response_model": Answer, "max_tokens": 400}
structured = instructor.from_openai(openai.OpenAI(), mode=instructor.Mode.JSON_SCHEMA)
assert isinstance(structured.chat.completions.create(model=os.environ["MODEL"], **asked).yes, bool)
tools = instructor.from_openai(openai.OpenAI(), mode=instructor.Mode.TOOLS_STRICT)
assert isinstance(tools.chat.completions.create(model=os.environ["TOOLS_MODEL"], **asked).yes, bool)
print(json.dumps(["structured", "tools"]))
