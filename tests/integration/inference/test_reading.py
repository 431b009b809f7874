"""Prompts in pieces, beginnings that are known already, log-probabilities and guides, with real weights."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from engine_rows import alone, first_written, together
from inference_fakes import ARTIFACT
from transformers import AutoModelForCausalLM

from services.common.rendering import Renderer
from services.inference.engine import GenerationRequest, Sampling
from services.inference.guides import Constraint, Language, Vocabulary
from services.inference.reading import PIECE
from services.inference.transformers_engine import TransformersEngine

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")]

BASE = "baseModels/tiny"
LONG = tuple(3 + index * 7 % 250 for index in range(300))
# Nats; pieces have other shapes than the whole, so that sums are rounded otherwise.
BOUND = 1e-4


@pytest.fixture
def engine(base_directory: Path) -> TransformersEngine:
    engine = TransformersEngine(threads=1, prefix_tokens=512)
    engine.load_base(BASE, base_directory)
    return engine


def asked(prompt: tuple[int, ...], count: int = 4, **fields: object) -> GenerationRequest:
    return GenerationRequest(BASE, None, prompt, count, **fields)


@pytest.fixture(scope="module")
def reference(base_directory: Path) -> torch.Tensor:
    """Log-probabilities behind every token of LONG, by one forward pass; shape [300, vocabulary]."""
    model = AutoModelForCausalLM.from_pretrained(base_directory, dtype=torch.float32).eval()
    with torch.inference_mode():
        return torch.log_softmax(model(input_ids=torch.tensor([LONG])).logits[0], dim=-1)


def forward_lengths(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of everything that goes through the model from now on."""
    shapes: list[tuple[int, ...]] = []
    model = engine._batches[BASE].network.model
    original = model.forward

    def noted(*args: object, **kwargs: object) -> object:
        shapes.append(tuple(kwargs["input_ids"].shape))  # type: ignore[attr-defined]
        return original(*args, **kwargs)

    monkeypatch.setattr(model, "forward", noted)
    return shapes


def test_a_long_prompt_is_read_in_pieces_while_others_write(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = alone(engine, asked(LONG[1:]))
    engine.admit(1, asked((5, 6, 7), 100))
    engine.step(BASE)
    shapes = forward_lengths(engine, monkeypatch)
    engine.admit(2, asked(LONG))
    steps = [engine.step(BASE) for _ in range(4)]
    assert [set(step) for step in steps] == [{1}, {1}, {1, 2}, {1, 2}]
    assert shapes == [(1, 1), (1, PIECE), (1, 1), (1, PIECE), (1, 1), (1, len(LONG) - 2 * PIECE), (2, 1)]
    engine.leave(1)
    engine.leave(2)
    assert alone(engine, asked(LONG[1:])) == expected


def test_one_who_leaves_while_it_is_read_leaves_nothing(engine: TransformersEngine) -> None:
    expected = alone(engine, asked((5, 6, 7)))
    engine.admit(1, asked((*LONG, *LONG[:100])))
    assert engine.step(BASE) == {}
    engine.leave(1)
    assert engine.step(BASE) == {}
    assert alone(engine, asked((5, 6, 7))) == expected


def test_a_beginning_that_is_known_is_not_read_again_and_changes_nothing(
    base_directory: Path, engine: TransformersEngine, adapter_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.load_adapter(BASE, ARTIFACT, adapter_directory)
    forgetful = TransformersEngine(threads=1)
    forgetful.load_base(BASE, base_directory)
    forgetful.load_adapter(BASE, ARTIFACT, adapter_directory)
    other = (*LONG[:100], 9, 9, 9)
    requests = [asked(LONG), asked(other), asked(LONG), dataclasses.replace(asked(LONG), adapter=ARTIFACT)]
    expected = [alone(forgetful, request) for request in requests]
    shapes = forward_lengths(engine, monkeypatch)
    assert [alone(engine, request) for request in requests] == expected
    read = [columns for _, columns in shapes if columns > 1]
    # 96 of the 100 shared tokens are whole blocks; the same prompt leaves its last 12; an adapter has beginnings of its own.
    assert read == [PIECE, PIECE, 44, 7, 12, PIECE, PIECE, 44]


def test_an_adapter_that_comes_back_with_other_weights_reads_anew(
    engine: TransformersEngine, base_directory: Path, adapter_directory: Path, other_adapter_directory: Path
) -> None:
    request = dataclasses.replace(asked(LONG), adapter=ARTIFACT)
    answers = []
    for directory in (adapter_directory, other_adapter_directory):
        engine.load_adapter(BASE, ARTIFACT, directory)
        answers.append(alone(engine, request))
        engine.unload(ARTIFACT)
    fresh = TransformersEngine(threads=1)
    fresh.load_base(BASE, base_directory)
    fresh.load_adapter(BASE, ARTIFACT, other_adapter_directory)
    assert answers[1] == alone(fresh, request) != answers[0]


@pytest.mark.parametrize("judged_from", [0, 1, PIECE - 1, PIECE, PIECE + 1, 299])
def test_every_token_of_a_prompt_is_judged_as_one_forward_pass_does(
    engine: TransformersEngine, reference: torch.Tensor, judged_from: int
) -> None:
    alone(engine, asked(LONG))
    written = first_written(engine, asked(LONG, logprobs=2, judged_from=judged_from))
    assert [token.id for token in written.prompt] == list(LONG[judged_from:])
    for place, token in enumerate(written.prompt, judged_from):
        if place == 0:
            assert token.logprob is None
            continue
        assert token.logprob == pytest.approx(float(reference[place - 1, token.id]), abs=BOUND)
        assert token.top[0][1] == pytest.approx(float(reference[place - 1].max()), abs=BOUND)
    assert written.logprob == pytest.approx(float(reference[-1].max()), abs=BOUND)


def test_log_probabilities_are_the_models_own_whatever_changes_the_choice(
    engine: TransformersEngine, reference: torch.Tensor
) -> None:
    likeliest = int(reference[-1].argmax())
    sampling = Sampling(temperature=1.5, seed=4, logit_bias=((likeliest, -100.0),))
    written = first_written(engine, asked(LONG, sampling=sampling, logprobs=1))
    assert written.id != likeliest
    assert written.logprob == pytest.approx(float(reference[-1, written.id]), abs=BOUND)
    assert written.top[0][0] == likeliest


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_constrained_answer_fits_beside_rows_without_constraint(
    engine: TransformersEngine, base_directory: Path, temperature: float
) -> None:
    renderer = Renderer.from_directory(base_directory)
    vocabulary = Vocabulary(base_directory, size=267, ends=renderer.end_of_turn_ids)
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"mood": {"enum": ["good", "bad"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": ["mood", "count"],
            "additionalProperties": False,
        }
    )
    free = asked((5, 6, 7), 40)
    expected = alone(engine, free)
    # Room for all the white space that is permitted.
    guided = asked((5, 6, 8), 200, sampling=Sampling(temperature=temperature, seed=2))
    constraint = Constraint(Language.JSON_SCHEMA, schema, "response_format.json_schema")
    answers = together(engine, [free, dataclasses.replace(guided, guide=vocabulary.guide(constraint))], stagger=1)
    assert answers[0] == expected
    ids = answers[1][: next(index for index, token in enumerate(answers[1]) if token in renderer.end_of_turn_ids)]
    value = json.loads(renderer.decode(ids))
    assert value["mood"] in ("good", "bad")
    assert 0 <= value["count"] <= 99


def test_a_guide_that_is_lost_fails_its_own_row_alone(engine: TransformersEngine) -> None:
    class Lost:
        def allowed(self) -> bytes:
            raise ValueError("the constraint takes too much work")

        def take(self, token: int) -> None: ...

    engine.admit(1, asked((5, 6, 7)))
    engine.admit(2, asked((5, 6, 7), guide=Lost()))
    outcomes = engine.step(BASE)
    assert "too much work" in outcomes[2].message
    assert set(engine.step(BASE)) == {1}


def test_rows_beside_each_other_are_as_probable_as_alone(engine: TransformersEngine) -> None:
    """Sums are rounded otherwise in a larger batch; how much otherwise is what a seed's promise rests on."""
    requests = [asked(LONG[:length], 20, logprobs=0) for length in (3, 80, 41)]
    for ticket, request in enumerate(requests):
        engine.admit(ticket, request)
    beside = [
        [step[ticket].logprob for step in steps] for steps in [[engine.step(BASE) for _ in range(20)]] for ticket in range(3)
    ]
    for ticket in range(3):
        engine.leave(ticket)
    for request, logprobs in zip(requests, beside, strict=True):
        engine.admit(9, request)
        singly = [engine.step(BASE)[9].logprob for _ in range(20)]
        engine.leave(9)
        assert all(math.isclose(one, other, abs_tol=BOUND) for one, other in zip(singly, logprobs, strict=True))
