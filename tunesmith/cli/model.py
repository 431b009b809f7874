"""`tunesmith model …`: base models, and conversations with anything that can answer."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunesmith.cli.options import Json
from tunesmith.cli.output import print_fields, print_json, print_table, size, talk, when
from tunesmith.names import bare_id

if TYPE_CHECKING:
    from tunesmith.client import Client

app = typer.Typer(help="Base models, and conversations with base models, tasks and artifacts.", no_args_is_help=True)


@app.command()
def ls(as_json: Json = False) -> None:
    """List base models."""
    from tunesmith.client import Client

    with Client() as client:
        if as_json:
            for model in client.list_base_models():
                print_json(model, compact=True)
            return
        rows = [
            (
                bare_id(m.name),
                m.display_name,
                f"{m.parameter_count / 1e6:,.0f} M",
                f"{m.context_length:,}",
                size(m.size_bytes),
                m.license,
            )
            for m in client.list_base_models()
        ]
    print_table(["ID", "NAME", "PARAMETERS", "CONTEXT", "SIZE", "LICENCE"], rows, "no base models are registered")


@app.command()
def show(model: Annotated[str, typer.Argument(help="ID or name of a base model.")], as_json: Json = False) -> None:
    """Show one base model."""
    from tunesmith.client import Client

    with Client() as client:
        found = client.get_base_model(model)
    if as_json:
        print_json(found)
        return
    print_fields(
        [
            ("name", found.name),
            ("called", found.display_name),
            ("family", found.family),
            ("parameters", f"{found.parameter_count:,}"),
            ("context", f"{found.context_length:,} tokens"),
            ("licence", found.license),
            ("size", size(found.size_bytes)),
            ("revision", found.revision),
            ("created", when(found.create_time)),
            ("files", "\n".join(f"{file.path} ({size(file.size_bytes)})" for file in found.files)),
        ]
    )


@app.command()
def chat(
    model: Annotated[str, typer.Argument(help="A base model's ID, a task's ID, or artifacts/ID.")],
    *,
    message: Annotated[str, typer.Option("--message", "-m", help="Answer this and end; without it, a conversation.")] = "",
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    temperature: Annotated[float | None, typer.Option(help="0 = always the likeliest token (default).")] = None,
    top_p: Annotated[float | None, typer.Option(help="Only the likeliest tokens up to this probability.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to write at most.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the sampling.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Only so many of the likeliest tokens.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Only tokens so probable in relation to the likeliest.")] = None,
    frequency_penalty: Annotated[float | None, typer.Option(help="Less of a token each time it was written.")] = None,
    presence_penalty: Annotated[float | None, typer.Option(help="Less of a token once it was written.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Less of what stands there already; 1 = no less.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A text that ends the answer; may be repeated.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="A model to answer beside it, with --message; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Chat with a model. The answer is printed as it is written."""
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
    }
    with Client() as client:
        if (as_json or compare) and not message:
            raise typer.BadParameter(f"{'--compare' if compare else '--json'} needs --message", param_hint="--message")
        if compare:
            _compare(client, [model, *compare], message, system, sampling, as_json=as_json)
        elif as_json:
            print_json(client.chat(model, message, system or None, **sampling))
        elif message:
            _answer(client, model, [{"role": "user", "content": message}], system, sampling)
        else:
            _converse(client, model, system, sampling)


def _compare(client: "Client", models: list[str], message: str, system: str, sampling: dict[str, Any], *, as_json: bool) -> None:
    answers = [""] * len(models)
    for part in client.compare_chat(models, message, system or None, **sampling):
        answers[part.index] += part.delta
    for model, answer in zip(models, answers, strict=True):
        print(json.dumps({"model": model, "answer": answer}, ensure_ascii=False) if as_json else f"{model}\n  {answer}")


def _converse(client: "Client", model: str, system: str, sampling: dict[str, Any]) -> None:
    talk(f"talking to {model}; Ctrl-D ends")
    turns: list[dict[str, str]] = []
    while True:
        print("you> " if sys.stdin.isatty() else "", end="", file=sys.stderr, flush=True)
        words = sys.stdin.readline()
        if not words:
            talk("")
            return
        if words.strip():
            turns.append({"role": "user", "content": words.strip()})
            turns.append({"role": "assistant", "content": _answer(client, model, turns, system, sampling)})


def _answer(client: "Client", model: str, turns: list[dict[str, str]], system: str, sampling: dict[str, Any]) -> str:
    pieces: list[str] = []
    usage = None
    for part in client.stream_chat(model, turns, system or None, **sampling):
        pieces.append(part.delta)
        print(part.delta, end="", flush=True)
        usage = part.usage if part.HasField("usage") else usage
    print()
    if usage is not None and sys.stderr.isatty():
        seconds = usage.total_time.ToMilliseconds() / 1000
        talk(f"({usage.completion_tokens} tokens in {seconds:.1f} s)")
    return "".join(pieces)
