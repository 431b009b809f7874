"""pydantic-ai: text, stream and a typed answer."""

import asyncio
import json
import os

from pydantic import BaseModel
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.models.openai import OpenAIChatModel


class Answer(BaseModel):
    """What is to be said."""

    yes: bool


async def main() -> None:
    model = OpenAIChatModel(os.environ["MODEL"])
    agent = Agent(model, model_settings={"max_tokens": 8, "temperature": 0})
    whole = (await agent.run("number 3")).output
    async with agent.run_stream("number 3") as answer:
        assert await answer.get_output() == whole
    typed = Agent(model, output_type=NativeOutput(Answer), model_settings={"max_tokens": 400})
    assert isinstance((await typed.run("number 3")).output.yes, bool)
    try:
        await Agent(OpenAIChatModel("none")).run("x")
        raise SystemExit("a model that does not exist has answered")
    except ModelHTTPError as error:
        assert error.status_code == 404


asyncio.run(main())
print(json.dumps(["chat", "stream", "structured", "errors"]))
