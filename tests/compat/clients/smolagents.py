"""smolagents' OpenAIModel, as its agents ask it: whole, streamed, and with a tool to call."""

import json
import os

from smolagents import OpenAIModel, Tool

messages = [{"role": "user", "content": [{"type": "text", "text": "number 3"}]}]
model = OpenAIModel(model_id=os.environ["MODEL"], api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"])
short = {"max_tokens": 8, "temperature": 0}
whole = model.generate(messages, **short).content
assert "".join(piece.content or "" for piece in model.generate_stream(messages, **short)) == whole


class Look(Tool):
    """A tool without an effect."""

    name, description, output_type = "look", "Looks.", "string"
    inputs = {"yes": {"type": "boolean", "description": "Whether."}}

    def forward(self, yes: bool) -> str:
        """Says what it was given."""
        return str(yes)


calling = OpenAIModel(
    model_id=os.environ["TOOLS_MODEL"], api_base=os.environ["OPENAI_BASE_URL"], api_key=os.environ["OPENAI_API_KEY"]
)
answer = calling.generate(messages, tools_to_call_from=[Look()], max_tokens=400)
assert answer.tool_calls[0].function.name == "look"
print(json.dumps(["chat", "stream", "tools"]))
