"""The root command: puts the nouns together and turns every error into a message and an exit code."""

import os
import sys
from typing import Annotated, Any

import typer
import typer.core

from tunesmith.cli import (
    api,
    artifact,
    artifact_notices,
    backup,
    batch,
    completion,
    data,
    demo,
    errors,
    evaluate,
    model,
    model_add,
    registry,
    registry_import,
    runner,
    stack,
    task,
)
from tunesmith.errors import TunesmithError
from tunesmith.local.errors import LocalError


class _Root(typer.core.TyperGroup):
    """Catches what commands raise, so that no command does it itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (TunesmithError, LocalError) as error:
            errors.show(error, as_json=ctx.meta["json"])
            raise typer.Exit(errors.exit_code(error)) from error
        except BrokenPipeError as closed:  # the reader, `head` for example, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(errors.OK) from closed
        except OSError as error:  # a file that is not there, a full disk; gRPC's own are TunesmithErrors by now
            broken = LocalError("FILE_UNUSABLE", str(error), "Check the path and its permissions.")
            errors.show(broken, as_json=ctx.meta["json"])
            raise typer.Exit(errors.FAILED) from error
        except UnicodeError as error:  # of a file, an argument, what is piped in, or a terminal that cannot show everything
            broken = LocalError("TEXT_UNREADABLE", f"a text is not UTF-8: {error}", "Write it in UTF-8.")
            errors.show(broken, as_json=ctx.meta["json"])
            raise typer.Exit(errors.FAILED) from error
        except KeyboardInterrupt as interruption:
            raise typer.Exit(errors.INTERRUPTED) from interruption


app = typer.Typer(
    cls=_Root,
    help="Fine-tune models on your own machines: upload data, create a task, watch it, chat with the result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.add_typer(task.app, name="task")
app.add_typer(evaluate.app, name="eval")
app.add_typer(batch.app, name="batch")
app.add_typer(model.app, name="model")
app.add_typer(artifact.app, name="artifact")
app.add_typer(registry.app, name="registry")
app.add_typer(runner.app, name="runner")
artifact_notices.register(artifact.app)
model_add.register(model.app)
registry_import.register(registry.app)
stack.register(app)
backup.register(app)
demo.register(app)
api.register(app)
completion.register(app)


@app.command()
def version(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Show the version."""
    import json
    from importlib.metadata import version as installed

    number = installed("tunesmith")
    print(json.dumps({"version": number}) if as_json else f"tunesmith {number}")
