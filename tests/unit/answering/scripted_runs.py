"""Evaluations and generations of rows that a test writes, and models that answer by a rule."""

import asyncio
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.common.errors import InvalidArgument, ServiceError, Unavailable, Violation
from services.common.grading.graders import Grader
from services.common.grading.sampling import Sampling
from services.trainer.answering.asking import Asker
from services.trainer.answering.config import EvaluationConfig, GenerationConfig
from services.trainer.answering.evaluation import evaluate
from services.trainer.answering.generation import generate
from services.trainer.answering.reports import Reports
from services.trainer.evaluating.turns import Turn
from services.trainer.training_events import parse
from tests.unit.answering.fake_models import FakeModels

UNAVAILABLE = Unavailable("INFERENCE_UNAVAILABLE", "the inference service did not answer")
BUSY = ServiceError("TOO_MANY_QUESTIONS", "256 questions wait")
TOO_LONG = InvalidArgument(Violation("messages", "too long"), reason="CONTEXT_LENGTH_EXCEEDED")
NO_TOOLS = ServiceError("TOOLS_UNSUPPORTED", "tools: the chat template of tiny does not show tools to the model")
BROKEN = ServiceError("INTERNAL", "the engine failed")


def chat(question: str, answer: str | None = None, **more: Any) -> dict[str, Any]:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
    return {"messages": turns + ([{"role": "assistant", "content": answer}] if answer is not None else []), **more}


def chat_and(question: str, answer: str, turn: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [*chat(question, answer)["messages"], turn]}


def told(turns: Iterable[Turn]) -> list[tuple[str, str]]:
    """Turns without tools, as (role, text)."""
    assert all(turn.keys() == {"role", "content"} for turn in turns)
    return [(turn["role"], turn["content"]) for turn in turns]


ANSWERED = chat("q", "a")["messages"][1:]


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Told(Reports):
    """Reports into a pipe that this test reads."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        super().__init__(writing)

    def events(self) -> list[Any]:
        os.close(self._descriptor)
        with os.fdopen(self._reading, "rb") as pipe:
            return [parse(line, 0) for line in pipe]


def evaluation(directory: Path, data: Path, graders: tuple[Grader, ...] = (), **more: Any) -> EvaluationConfig:
    given: dict[str, Any] = {"max_rows": None, "system_prompt": "", "models": ("base", "tuned"), "trained_on": {}, "steps": {}}
    given |= {"measures_perplexity": False} | more
    return EvaluationConfig(directory=directory, data=data, sampling=Sampling(), graders=graders, **given)


def generation(directory: Path, data: Path, **more: Any) -> GenerationConfig:
    given: dict[str, Any] = {"max_rows": None, "system_prompt": ""} | more
    return GenerationConfig(directory=directory, data=data, sampling=Sampling(), model="base", **given)


def parity(model: str, messages) -> str:
    number = int(messages[-1]["content"].removeprefix("q"))
    right = "even" if number % 2 == 0 else "odd"
    return right if model.endswith("tuned") and number != 7 else "odd"


def run_evaluation(config: EvaluationConfig, models: FakeModels):
    told = Told()
    asker = Asker(models, at_once=4, clock=lambda: 1.0)
    return asyncio.run(evaluate(config, asker, told, lambda: 1.0)), told.events()


def run_generation(config: GenerationConfig, models: FakeModels):
    asker = Asker(models, at_once=4, clock=lambda: 1.0)
    return asyncio.run(generate(config, asker, Told(), lambda: 1.0))
