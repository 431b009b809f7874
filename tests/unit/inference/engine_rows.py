"""Whole answers out of an engine that is asked step by step."""

import itertools
from collections.abc import Sequence

from services.common.errors import ServiceError
from services.inference.engine import Engine, GenerationRequest, Written

_TICKETS = itertools.count(1_000_000)


def together(engine: Engine, requests: Sequence[GenerationRequest], *, stagger: int = 0) -> list[list[int]]:
    """Each request's `max_tokens` tokens, all in one batch; each enters `stagger` steps after the one before."""
    tickets = [next(_TICKETS) for _ in requests]
    answers: dict[int, list[int]] = {ticket: [] for ticket in tickets}
    entering = list(zip(tickets, requests, strict=True))
    step = 0
    while entering or any(len(answers[t]) < r.max_tokens for t, r in zip(tickets, requests, strict=True)):
        while entering and step >= stagger * (len(requests) - len(entering)):
            engine.admit(*entering.pop(0))
        for base in {request.base for request in requests}:
            for ticket, outcome in engine.step(base).items():
                if isinstance(outcome, ServiceError):
                    raise outcome
                answers[ticket].append(outcome.id)
                if len(answers[ticket]) == requests[tickets.index(ticket)].max_tokens:
                    engine.leave(ticket)
        step += 1
    return list(answers.values())


def alone(engine: Engine, request: GenerationRequest) -> list[int]:
    """The request's `max_tokens` tokens, with nothing else in the batch."""
    return together(engine, [request])[0]


def first_written(engine: Engine, request: GenerationRequest) -> Written:
    """What comes with a request's first token, however many steps its prompt takes."""
    ticket = next(_TICKETS)
    engine.admit(ticket, request)
    while True:
        outcomes = engine.step(request.base)
        if ticket in outcomes:
            engine.leave(ticket)
            outcome = outcomes[ticket]
            if isinstance(outcome, ServiceError):
                raise outcome
            return outcome
