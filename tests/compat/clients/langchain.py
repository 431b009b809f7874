"""LangChain's ChatOpenAI: whole, streamed, structured, and with a tool."""

import json
import os

import openai
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

model = ChatOpenAI(model=os.environ["MODEL"], temperature=0, max_tokens=8)
whole = model.invoke("number 3")
assert whole.usage_metadata["total_tokens"] > 0
assert "".join(chunk.content for chunk in model.stream("number 3")) == whole.content

schema = {
    "title": "Answer",
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
structured = ChatOpenAI(model=os.environ["MODEL"], max_tokens=400).with_structured_output(schema, method="json_schema")
assert isinstance(structured.invoke("number 3")["yes"], bool)


@tool
def look(yes: bool) -> str:
    """Looks."""
    return str(yes)


bound = ChatOpenAI(model=os.environ["TOOLS_MODEL"], max_tokens=400).bind_tools([look], tool_choice="look", strict=True)
assert bound.invoke("number 3").tool_calls[0]["name"] == "look"
try:
    ChatOpenAI(model="none").invoke("x")
    raise SystemExit("a model that does not exist has answered")
except openai.NotFoundError:
    pass
print(json.dumps(["chat", "stream", "structured", "tools", "errors"]))
