"""openai-agents with the chat completions API: an agent that must call its tool, and one that only answers."""

import asyncio
import json
import os

import openai
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, function_tool, set_tracing_disabled

set_tracing_disabled(True)
called = []


@function_tool
def look(yes: bool) -> str:
    """Looks."""
    called.append(yes)
    return "seen"


async def main() -> None:
    client = openai.AsyncOpenAI()
    tuned = OpenAIChatCompletionsModel(os.environ["MODEL"], client)
    short = ModelSettings(max_tokens=8, temperature=0)
    plain = Agent(name="plain", model=tuned, model_settings=short)
    whole = (await Runner.run(plain, "number 3")).final_output
    streamed = Runner.run_streamed(plain, "number 3")
    async for _ in streamed.stream_events():
        pass
    assert streamed.final_output == whole
    looking = Agent(
        name="looking",
        model=OpenAIChatCompletionsModel(os.environ["TOOLS_MODEL"], client),
        tools=[look],
        tool_use_behavior="stop_on_first_tool",
        model_settings=ModelSettings(max_tokens=400, tool_choice="required"),
    )
    assert (await Runner.run(looking, "number 3")).final_output == "seen"


asyncio.run(main())
assert called
print(json.dumps(["chat", "stream", "tools"]))
