"""Prompts that are read together: which ones, in what pieces, and what happens when one fails."""

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from engine_rows import alone, together
from lean_engines import BASE, LONG, MODELS, asked, lean, stock

from services.common.errors import ServiceError
from services.inference.network import Piece
from services.inference.reading import PIECE
from services.inference.transformers_engine import TransformersEngine


@pytest.fixture(scope="module")
def weights() -> object:
    return MODELS["llama"]()


def lengths_read(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Tokens of the pieces that are read together from now on."""
    noted: list[list[int]] = []
    computing = engine._batches[BASE].network
    read = computing.read

    def reading(pieces: Sequence[Piece]) -> list[torch.Tensor]:
        noted.append([len(piece.tokens) for piece in pieces])
        return read(pieces)

    monkeypatch.setattr(computing, "read", reading)
    return noted


def test_prompts_are_read_together_up_to_a_piece_in_a_step(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lean(weights)
    requests = [asked(LONG[shift : shift + length]) for shift, length in enumerate((40, 50, 60, 10, 180, 100))]
    expected = [alone(stock(weights), request) for request in requests]
    read = lengths_read(engine, monkeypatch)
    assert together(engine, requests) == expected
    # Three times a piece while nobody writes.
    assert read == [[40, 50, 60, 10, 128, 96], [52, 4]]


def test_who_writes_waits_for_a_piece_at_most(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lean(weights)
    engine.admit(1, asked(LONG[:5], 100))
    engine.step(BASE)
    read = lengths_read(engine, monkeypatch)
    for ticket, length in enumerate((40, 50, 60, 10, 180), 2):
        engine.admit(ticket, asked(LONG[:length]))
    assert all(1 in engine.step(BASE) for _ in range(3))
    assert read == [[40, 50, 38], [22, 10, 96], [84]]
    assert all(sum(lengths) <= PIECE for lengths in read)


def test_a_network_of_transformers_reads_one_prompt_after_the_other(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = stock(weights)
    read = lengths_read(engine, monkeypatch)
    together(engine, [asked(LONG[:40]), asked(LONG[:100])])
    assert read == [[40], [100]]


def test_what_is_asked_several_times_at_once_is_read_once(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lean(weights, prefix_tokens=512)
    requests = [asked(LONG[:70])] * 3 + [asked((*LONG[:40], 9, 9, 9)), asked((9, *LONG[:20]))]
    expected = [alone(lean(weights), request) for request in requests]
    read = lengths_read(engine, monkeypatch)
    assert together(engine, requests) == expected
    # Two blocks of 32 are known then, and one of them to the fourth.
    assert read == [[70], [6, 6, 11, 21]]


def test_who_has_another_adapter_or_nothing_to_gain_waits_for_nobody(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for prefix_tokens, requests in (
        (0, [asked(LONG[:50])] * 2),
        (512, [asked(LONG[:32])] * 2),
        (512, [asked(LONG[:50], judged_from=0), asked(LONG[:50], judged_from=10)]),
    ):
        engine = lean(weights, prefix_tokens=prefix_tokens)
        read = lengths_read(engine, monkeypatch)
        together(engine, requests)
        assert read == [[len(request.prompt) for request in requests]]


def test_a_long_prompt_that_goes_on_beside_a_short_one_looks_at_its_beginning(weights: object) -> None:
    engine, judged = lean(weights), {"logprobs": 0, "judged_from": 100}
    requests = [asked(LONG, 4, **judged), asked(LONG[5:25], 4), asked(LONG[3:], 4)]
    expected = [alone(stock(weights), request) for request in requests]
    assert together(engine, requests) == expected


def test_a_prompt_that_fails_beside_others_fails_alone(weights: object) -> None:
    engine = lean(weights)
    good = [asked(LONG[:20]), asked(LONG[30:70])]
    expected = [alone(engine, request) for request in good]
    engine.admit(1, good[0])
    engine.admit(2, asked((10**6,)))
    engine.admit(3, good[1])
    steps = [engine.step(BASE) for _ in range(8)]
    assert isinstance(steps[0][2], ServiceError)
    assert [set(step) for step in steps] == [{1, 2, 3}] + [{1, 3}] * 7
    assert [[step[ticket].id for step in steps] for ticket in (1, 3)] == expected


def test_caches_are_as_they_were_when_reading_together_fails_on_the_way(weights: object, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = lean(weights)
    requests = [asked(LONG), asked(LONG[:30])]
    expected = [alone(engine, request) for request in requests]
    last = engine._batches[BASE].network._layers[-1]
    add_ = last.add_

    def failing(x: torch.Tensor, *rest: object) -> None:
        if len(x) == PIECE + 30:
            raise RuntimeError("no memory for so many tokens")
        add_(x, *rest)

    monkeypatch.setattr(last, "add_", failing)
    engine.admit(1, requests[1])
    engine.admit(2, dataclasses.replace(requests[0], prompt=LONG[: PIECE + 40]))
    steps = [engine.step(BASE) for _ in range(4)]
    monkeypatch.undo()
    assert [step[1].id for step in steps] == expected[1][:4]
    assert [step[2].id for step in steps] == alone(lean(weights), asked(LONG[: PIECE + 40]))[:4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=["nan", "inf", "minus-inf"])
def test_a_single_number_that_is_not_finite_fails_its_row(weights: object, monkeypatch: pytest.MonkeyPatch, bad: float) -> None:
    engine = lean(weights)
    computing = engine._batches[BASE].network
    write = computing.write

    def spoiled(*args: object) -> torch.Tensor:
        logits = write(*args).clone()
        logits[1, 17] = bad
        return logits

    engine.admit(1, asked(LONG[:20]))
    engine.admit(2, asked(LONG[:30]))
    engine.step(BASE)
    monkeypatch.setattr(computing, "write", spoiled)
    outcomes = engine.step(BASE)
    assert not isinstance(outcomes[1], ServiceError)
    assert "not finite" in outcomes[2].message
