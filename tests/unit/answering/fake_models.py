"""A model that answers by a rule; for unit tests of what asks it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from services.common.errors import ServiceError
from services.common.grading.sampling import Sampling
from services.trainer.answering.inference import Question
from services.trainer.evaluating.turns import Call, Turn
from services.trainer.evaluating.values import Answer

Messages = Sequence[Turn]
Rule = Callable[[str, Messages], str]


class FakeModels:
    """`trouble` holds failures to raise for a row, one after the other, before it is answered."""

    def __init__(
        self,
        rule: Rule,
        trouble: Mapping[int, list[ServiceError]] | None = None,
        logprob: Callable[[str, Messages], float] = lambda *_: -1.0,
    ) -> None:
        self._rule, self._logprob = rule, logprob
        self._trouble = {row: list(errors) for row, errors in (trouble or {}).items()}
        self.asked: list[tuple[str, int]] = []
        self.samplings: list[Sampling] = []
        self.judged: list[tuple[str, int]] = []
        self.questions: list[Question] = []
        """Asked and judged."""
        self.calls: Mapping[int, list[Call]] = {}
        """Of tools, in place of what the rule says about a row."""
        self.refuse_to_judge: Mapping[int, ServiceError] = {}
        self.most_at_once = 0
        self._at_once = 0

    async def load(self, model: str) -> str:
        if errors := self._trouble.get(0):
            raise errors.pop(0)
        return f"loaded/{model}"

    async def ask(self, model: str, question: Question, sampling: Sampling) -> Answer:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await asyncio.sleep(0)
        self._at_once -= 1
        if errors := self._trouble.get(question.row):
            raise errors.pop(0)
        self.asked.append((model, question.row))
        self.questions.append(question)
        self.samplings.append(sampling)
        calls = self.calls.get(question.row, [])
        said = "" if calls else self._rule(model, question.messages)
        return Answer(question.row, said, "TOOL_CALLS" if calls else "STOP", 0.25, 3, prompt_tokens=5, tool_calls=calls)

    async def judge(self, model: str, question: Question) -> Answer:
        await asyncio.sleep(0)
        if question.row in self.refuse_to_judge:
            raise self.refuse_to_judge[question.row]
        self.judged.append((model, question.row))
        self.questions.append(question)
        return Answer(question.row, logprob=self._logprob(model, question.messages), tokens=2)
