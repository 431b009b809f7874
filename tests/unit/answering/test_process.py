"""The process as its supervisor runs it, and the inference service as it asks it, over loopback."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path
from typing import Any

import pytest

from services.common.channels import connect
from services.common.errors import ServiceError
from services.common.grading.sampling import Sampling
from services.trainer.answering.answer_file import AnswerFile
from services.trainer.answering.asking import Asker
from services.trainer.answering.inference import Inference, Question
from services.trainer.evaluating.turns import spoken
from tests.unit.answering.scripted_inference import Service
from tunesmith.v1 import inference_service_pb2 as pb2


def question(row: int, *turns: tuple[str, str]) -> Question:
    return Question(row, [spoken(*turn) for turn in turns])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    rows = [{"messages": [{"role": "user", "content": f"q{n}"}]} for n in range(1, 9)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"generation": {"model": "tiny", "dataset": "datasets/x", "sampling": {"seed": 100, "max_tokens": 5, "stop": ["!"]}}}
    config = {"spec": spec, "data": str(tmp_path / "data.jsonl"), "trained_on": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


async def run(
    directory: Path, address: str, hold: asyncio.Event | None = None, number: int = 0
) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and what it reported; with `hold`, a signal is sent once that is set."""
    reading, writing = os.pipe()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TUNESMITH_")}
    environment |= {"TUNESMITH_EVENTS_FD": str(writing), "TUNESMITH_RUN_INFERENCE_QUESTIONS": "4"}
    environment |= {"TUNESMITH_RUN_INFERENCE_ADDRESS": address} if address else {}
    command = [sys.executable, "-m", "services.trainer.answering", str(directory / "config.json")]
    process = await asyncio.create_subprocess_exec(*command, env=environment, pass_fds=(writing,), stdout=DEVNULL, stderr=DEVNULL)
    os.close(writing)
    if hold is not None:
        await asyncio.wait_for(hold.wait(), 30)
        process.send_signal(number)
    code = await asyncio.wait_for(process.wait(), 30)
    with os.fdopen(reading) as pipe:
        return code, [json.loads(line) for line in pipe]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)], ids=["kill", "term"])
async def test_another_process_goes_on_where_one_was_ended(
    service: Service, address: str, directory: Path, number: int, code: int
) -> None:
    service.held = 5
    assert (await run(directory, address, service.waiting, number))[0] == code
    service.held = 10**9
    ended, told = await run(directory, address)
    assert ended == 0
    asked = [request.messages[-1].content for request in service.asked]
    # What was answered and not yet on disk may be asked again, and nothing else.
    assert set(asked) == {f"q{n}" for n in range(1, 9)}
    assert len(asked) <= 8 + 4
    rows = [json.loads(line) for line in (directory / "generated.jsonl").read_text().splitlines()]
    assert [row["messages"][-1]["content"] for row in rows] == [f"re: q{n}" for n in range(1, 9)]
    answers = [json.loads(line) for line in (directory / "output" / "answers.jsonl").read_text().splitlines()]
    assert [(each["prompt_tokens"], each["completion_tokens"]) for each in answers] == [(4, 7)] * 8
    started = next(event for event in told if event["kind"] == "answering_started")
    assert started["total_answers"] == 8
    assert 1 <= started["resumed_answers"] <= 5
    assert json.loads((directory / "result.json").read_text())["generation"]["cut_count"] == 8


async def test_without_an_inference_service_it_says_what_to_set(directory: Path) -> None:
    code, told = await run(directory, "")
    assert code == 1
    assert told[-1]["kind"] == "failure"
    assert told[-1]["reason"] == "INFERENCE_NOT_SET"
    assert "TUNESMITH_TRAINER_INFERENCE_ADDRESS" in told[-1]["hint"]


async def test_a_question_and_its_answer_over_the_wire(service: Service, address: str) -> None:
    async with connect(address) as channel:
        inference = Inference(channel, api_key="")
        assert await inference.load("tiny") == "baseModels/tiny"
        sampling = Sampling(5, 0.5, 0.9, 100, ("!",))
        answer = await inference.ask("tiny", question(3, ("system", "s"), ("user", "q")), sampling)
        with pytest.raises(ServiceError, match="too long") as caught:
            await inference.ask("tiny", question(4, ("user", "too long")), sampling)
    assert (answer.row, answer.text, answer.finish_reason, answer.seconds, answer.tokens) == (3, "re: q", "LENGTH", 1.5, 7)
    assert caught.value.reason == "CONTEXT_LENGTH_EXCEEDED"
    (request,) = service.asked
    assert (request.seed, request.max_tokens, request.temperature, request.top_p, list(request.stop)) == (103, 5, 0.5, 0.9, ["!"])


async def test_a_row_that_is_too_long_for_a_message_fails_alone(service: Service, address: str, tmp_path: Path) -> None:
    long = question(1, ("user", "x" * (5 * 2**20)))
    async with connect(address) as channel:
        asker = Asker(Inference(channel, api_key=""), at_once=1, clock=lambda: 0.0)
        with AnswerFile.open(tmp_path / "a", "tiny") as file:
            async with asyncio.timeout(20):
                await asker.answer("tiny", [long, question(2, ("user", "q"))], file, Sampling(), lambda: None)
            failed, answered = file[1], file[2]
    assert (failed.reason, answered.text) == ("REQUEST_TOO_LARGE", "re: q")
    assert "larger than max" in failed.message


async def test_a_text_is_judged_without_a_template_and_nothing_is_written(service: Service, address: str) -> None:
    async with connect(address) as channel:
        asker = Inference(channel, api_key="")
        found = await asker.judge("tiny", question(5, ("text", "a b c")))
        too_short = await asker.judge("tiny", question(6, ("text", "a")))
    # Nothing tells how probable the first token is.
    assert (found.row, found.logprob, found.tokens, found.is_answered) == (5, -1.5, 2, True)
    assert (too_short.row, too_short.is_answered, too_short.message) == (6, False, "the text has fewer than two tokens")
    assert service.completed[0] == pb2.Completion(model="tiny", text="a b c", echo=True, max_tokens=0, logprobs=True)


async def test_only_the_last_turn_of_a_conversation_is_judged(service: Service, address: str) -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "y")]
    async with connect(address) as channel:
        found = await Inference(channel, api_key="").judge("tiny", question(5, *turns))
    assert (found.row, found.logprob, found.tokens, found.is_answered) == (5, -3.0, 2, True)
    (request,) = service.judged
    assert [(turn.role, turn.content) for turn in request.messages] == turns
    assert [turn.weight if turn.HasField("weight") else None for turn in request.messages] == [None, None, 0, None, None]
