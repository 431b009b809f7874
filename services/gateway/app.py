"""Which path leads where; used by `__main__` and by tests."""

import time

from starlette.routing import Route, Router

from services.gateway import contract
from services.gateway.batches import Batches
from services.gateway.chat import Chat
from services.gateway.checkpoints import Checkpoints
from services.gateway.completions import Completions
from services.gateway.counters import Counters
from services.gateway.edge import Edge
from services.gateway.eval_output_items import EvalOutputItems
from services.gateway.eval_runs import EvalRuns
from services.gateway.evals import Evals
from services.gateway.events import Events
from services.gateway.files import Files
from services.gateway.graders import Graders
from services.gateway.health import Health
from services.gateway.job_conversion import JobConversion
from services.gateway.jobs import Jobs
from services.gateway.model_names import ModelNames
from services.gateway.models import Models
from services.gateway.peers import Peers
from services.gateway.responses import Responses
from services.gateway.settings import GatewaySettings
from services.gateway.uploads import Uploads

_EVAL = "/v1/evals/{eval_id}"
_RUN = _EVAL + "/runs/{run_id}"
_JOB = "/v1/fine_tuning/jobs/{job_id}"


def make_app(settings: GatewaySettings, peers: Peers) -> Edge:
    """The ASGI application."""
    conversion = JobConversion(settings.organization, time.time)
    names = ModelNames(peers, conversion)
    jobs = Jobs(peers, settings, names, conversion)
    counters = Counters()
    routes = [
        *_files(Files(peers, settings)),
        *_uploads(Uploads(peers, settings, time.time)),
        *_jobs(jobs, Events(peers, jobs, conversion), Checkpoints(peers, jobs, conversion)),
        *_models(Models(peers, settings, names, conversion)),
        Route("/v1/chat/completions", Chat(peers, settings, names).create, methods=["POST"]),
        Route("/v1/completions", Completions(peers, settings, names).create, methods=["POST"]),
        Route("/v1/responses", Responses(peers, settings, names).create, methods=["POST"]),
        *_batches(Batches(peers, settings, names)),
        *_evals(Evals(peers, settings), EvalRuns(peers, settings, names), EvalOutputItems(peers)),
        *_graders(Graders(peers, settings, names)),
        *_operations(Health(peers), counters),
    ]
    router = Router(routes, redirect_slashes=False)
    return Edge(router, settings, counters, _allowed(routes))


def _allowed(routes: list[Route]) -> dict[str, str]:
    """The methods of every path: a path has a route for each."""
    methods: dict[str, set[str]] = {}
    for route in routes:
        methods.setdefault(route.path, set()).update(route.methods or ())
    return {path: ", ".join(sorted(names)) for path, names in methods.items()}


def _files(files: Files) -> list[Route]:
    return [
        Route("/v1/files", files.create, methods=["POST"]),
        Route("/v1/files", files.index, methods=["GET"]),
        Route("/v1/files/{file_id}", files.retrieve, methods=["GET"]),
        Route("/v1/files/{file_id}", files.delete, methods=["DELETE"]),
        Route("/v1/files/{file_id}/content", files.content, methods=["GET"]),
    ]


def _uploads(uploads: Uploads) -> list[Route]:
    return [
        Route("/v1/uploads", uploads.create, methods=["POST"]),
        Route("/v1/uploads/{upload_id}/parts", uploads.add_part, methods=["POST"]),
        Route("/v1/uploads/{upload_id}/complete", uploads.complete, methods=["POST"]),
        Route("/v1/uploads/{upload_id}/cancel", uploads.cancel, methods=["POST"]),
    ]


def _batches(batches: Batches) -> list[Route]:
    return [
        Route("/v1/batches", batches.create, methods=["POST"]),
        Route("/v1/batches", batches.index, methods=["GET"]),
        Route("/v1/batches/{batch_id}", batches.retrieve, methods=["GET"]),
        Route("/v1/batches/{batch_id}/cancel", batches.cancel, methods=["POST"]),
    ]


def _evals(evals: Evals, runs: EvalRuns, items: EvalOutputItems) -> list[Route]:
    return [
        Route("/v1/evals", evals.create, methods=["POST"]),
        Route("/v1/evals", evals.index, methods=["GET"]),
        Route(_EVAL, evals.retrieve, methods=["GET"]),
        Route(_EVAL, evals.update, methods=["POST"]),
        Route(_EVAL, evals.delete, methods=["DELETE"]),
        Route(_EVAL + "/runs", runs.create, methods=["POST"]),
        Route(_EVAL + "/runs", runs.index, methods=["GET"]),
        Route(_RUN, runs.retrieve, methods=["GET"]),
        Route(_RUN, runs.cancel, methods=["POST"]),
        Route(_RUN + "/cancel", runs.cancel, methods=["POST"]),  # newer clients
        Route(_RUN, runs.delete, methods=["DELETE"]),
        Route(_RUN + "/output_items", items.index, methods=["GET"]),
        Route(_RUN + "/output_items/{output_item_id}", items.retrieve, methods=["GET"]),
    ]


def _jobs(jobs: Jobs, events: Events, checkpoints: Checkpoints) -> list[Route]:
    return [
        Route("/v1/fine_tuning/jobs", jobs.create, methods=["POST"]),
        Route("/v1/fine_tuning/jobs", jobs.index, methods=["GET"]),
        Route(_JOB, jobs.retrieve, methods=["GET"]),
        Route(_JOB + "/cancel", jobs.cancel, methods=["POST"]),
        Route(_JOB + "/pause", jobs.pause, methods=["POST"]),
        Route(_JOB + "/resume", jobs.resume, methods=["POST"]),
        Route(_JOB + "/events", events.index, methods=["GET"]),
        Route(_JOB + "/metrics", events.metrics, methods=["GET"]),
        Route(_JOB + "/checkpoints", checkpoints.index, methods=["GET"]),
    ]


def _graders(graders: Graders) -> list[Route]:
    return [
        Route("/v1/fine_tuning/alpha/graders/run", graders.run, methods=["POST"]),
        Route("/v1/fine_tuning/alpha/graders/validate", graders.validate, methods=["POST"]),
    ]


def _models(models: Models) -> list[Route]:
    return [
        Route("/v1/models", models.index, methods=["GET"]),
        Route("/v1/models/{model:path}", models.retrieve, methods=["GET"]),
        Route("/v1/models/{model:path}", models.delete, methods=["DELETE"]),
    ]


def _operations(health: Health, counters: Counters) -> list[Route]:
    return [
        Route("/healthz", health.live, methods=["GET"]),
        Route("/readyz", health.ready, methods=["GET"]),
        Route("/metrics", counters.serve, methods=["GET"]),
        Route("/openapi.json", contract.serve, methods=["GET"]),
    ]
