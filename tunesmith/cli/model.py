"""`tunesmith model …`: base models, and conversations with anything that can answer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.cli import conversations, errors, model_catalogue
from tunesmith.cli.options import Json
from tunesmith.cli.output import print_json

if TYPE_CHECKING:
    from tunesmith.client import Client
    from tunesmith.v1.inference_service_pb2 import ResponseFormat

app = typer.Typer(help="Base models, and conversations with base models, tasks and artifacts.", no_args_is_help=True)
model_catalogue.register(app)


Message = Annotated[str, typer.Option("--message", "-m", help="Answer this and end; without it, a conversation.")]
System = Annotated[str, typer.Option(help="The system message.")]
Temperature = Annotated[float | None, typer.Option(help="0 = always the likeliest token (default).")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens to write at most.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the sampling.")]
SchemaFile = Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A JSON Schema that the answer has to fit.")]


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A base model's ID, a task's ID, tasks/ID@step-N, or artifacts/ID.")],
    *,
    message: Message = "",
    system: System = "",
    temperature: Temperature = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest tokens up to this probability.")] = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    top_k: Annotated[int | None, typer.Option(help="Only so many of the likeliest tokens.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Only tokens so probable in relation to the likeliest.")] = None,
    frequency_penalty: Annotated[float | None, typer.Option(help="Less of a token each time it was written.")] = None,
    presence_penalty: Annotated[float | None, typer.Option(help="Less of a token once it was written.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Less of what stands there already; 1 = no less.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends the answer; may be repeated.")] = None,
    json_schema: SchemaFile = None,
    regex: Annotated[str, typer.Option(help="A regular expression that the answer has to match.")] = "",
    compare: Annotated[list[str] | None, typer.Option(help="A model to answer beside it; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """Chat with a model. The answer is printed as it is written. Beside others, the conversation goes on with what MODEL said."""
    from tunesmith.client import Client

    sampling = {
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": max_tokens,
        "seed": seed,
        "top_k": top_k,
        "min_p": min_p,
        "frequency_penalty": frequency_penalty,
        "presence_penalty": presence_penalty,
        "repetition_penalty": repetition_penalty,
        "stop": stop,
        "response_format": _format(json_schema, regex),
    }
    if as_json and not message:
        raise typer.BadParameter("--json needs --message", param_hint="--message")
    models = [model, *(compare or ())]
    with Client() as client:
        if not message:
            conversations.converse(client, models, system, sampling)
        elif as_json and not compare:
            print_json(client.chat(model, message, system or None, **sampling))
        else:
            _ask(client, models, message, system, sampling, as_json=as_json)


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(help="Two to eight models: base models, tasks, tasks/ID@step-N, artifacts.")],
    *,
    message: Message = "",
    system: System = "",
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    json_schema: SchemaFile = None,
    as_json: Json = False,
) -> None:
    """Ask several models the same. Without --message, question after question; each goes on with what the first model said."""
    from tunesmith.client import Client

    if len(models) < 2:
        raise typer.BadParameter("needs two models at least", param_hint="MODELS")
    if as_json and not message:
        raise typer.BadParameter("--json needs --message", param_hint="--message")
    sampling = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed, "response_format": _format(json_schema, "")}
    with Client() as client:
        if message:
            _ask(client, models, message, system, sampling, as_json=as_json)
        else:
            conversations.converse(client, models, system, sampling)


def _ask(
    client: "Client", models: list[str], message: str, system: str, sampling: conversations.Sampling, *, as_json: bool
) -> None:
    """One question; the exit code says when a model has failed beside others."""
    turns = [{"role": "user", "content": message}]
    said = conversations.answers(client, models, turns, system, sampling, as_json=as_json)
    if any(each.failed for each in said):
        raise typer.Exit(errors.FAILED)


def _format(json_schema: Path | None, regex: str) -> "ResponseFormat | None":
    from tunesmith.v1.inference_service_pb2 import ResponseFormat

    if json_schema and regex:
        raise typer.BadParameter("--json-schema and --regex exclude each other", param_hint="--regex")
    if json_schema:
        return ResponseFormat(json_schema=json_schema.read_text(encoding="utf-8"))
    return ResponseFormat(regex=regex) if regex else None
