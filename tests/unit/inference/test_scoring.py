"""Scores of conversations."""

import asyncio
import datetime
import math
import threading

import pytest
from inference_fakes import FakeEngine

from services.common.errors import ServiceError
from services.inference.engine import Token, Written
from services.inference.question import Message, Question
from services.inference.ready_model import ReadyModel
from services.inference.registry import Registry
from services.inference.request import Judged, judgement_for
from services.inference.resolver import ModelFiles
from services.inference.scoring import Judgement, Score
from services.inference.told import Told


@pytest.fixture
def ready(base_files: ModelFiles) -> ReadyModel:
    return Registry(FakeEngine(), max_bytes=10**9, now=lambda: datetime.datetime(2026, 1, 1)).hold(object(), base_files)


@pytest.fixture
def judged(ready: ReadyModel) -> Judged:
    turns = (Message("user", "a"), Message("assistant", "bc"), Message("user", "d"), Message("assistant", "e"))
    return judgement_for(ready, Question("tiny", turns))


async def test_only_what_training_learns_is_told(ready: ReadyModel, judged: Judged) -> None:
    judgement = Judgement(ready, judged, threading.Event())
    prompt = tuple(Token(token, -1.0) for token in judged.request.prompt[judged.request.judged_from :])
    assert judgement.take(Written(3, prompt=prompt))
    score = await judgement.score()
    assert "".join(token.text for token in score.tokens) == "bc<|im_end|>e<|im_end|>"
    assert (score.total, score.loss, score.conversation_tokens) == (-5.0, 1.0, len(judged.request.prompt))


async def test_a_failure_is_raised_and_who_is_gone_gets_nothing(ready: ReadyModel, judged: Judged) -> None:
    cancelled = threading.Event()
    failed, gone = (Judgement(ready, judged, cancelled) for _ in range(2))
    failed.end(ServiceError("GENERATION_FAILED", "broken"))
    with pytest.raises(ServiceError, match="broken"):
        await failed.score()
    cancelled.set()
    assert gone.gone
    gone.end(None)
    with pytest.raises(asyncio.CancelledError):
        await gone.score()


def test_the_loss_is_the_mean_of_the_tokens() -> None:
    tokens = tuple(Told(1, "a", b"a", math.log(p)) for p in (0.5, 0.25))
    assert Score(tokens, 9).loss == pytest.approx(1.5 * math.log(2))
