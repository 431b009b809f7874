"""The options of `tunesmith task create`."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.cli.options import DEFAULT_BASE_MODEL

Data = Annotated[
    list[str] | None,
    typer.Option(metavar="ID|FILE[:WEIGHT]", help="Training data; a file is uploaded first. Several are mixed by weight."),
]
Model = Annotated[str | None, typer.Option(help="The base model to start from.", show_default=DEFAULT_BASE_MODEL)]
Name = Annotated[str | None, typer.Option(help="What to call the task; default: after the data.")]
Description = Annotated[str | None, typer.Option(help="Free text.")]
Method = Annotated[
    str | None, typer.Option(help="What is learned: sft, dpo, kto, orpo, cpt or classification.", show_default="sft")
]
Tuning = Annotated[
    str | None, typer.Option(help="Which weights move: lora, qlora (base in 4 bits) or full.", show_default="lora")
]
ValidationData = Annotated[str | None, typer.Option(help="Held-out data, an ID or a file; its loss is measured while training.")]
EvaluationData = Annotated[
    str | None,
    typer.Option(
        "--eval-data", metavar="ID|FILE", help="Questions with known answers; the result is compared with the base model on them."
    ),
]
EvaluationCheckpoints = Annotated[
    bool, typer.Option("--eval-checkpoints", help="Compare the kept checkpoints on that data, too; needs --eval-data.")
]
NoEvaluation = Annotated[
    bool,
    typer.Option("--no-eval", help="Measure the loss of the validation data alone, without asking the result and the base."),
]
ValidationSplit = Annotated[
    float | None, typer.Option(metavar="RATIO", help="Share of the training data to hold out instead, at most 0.5.")
]
Origin = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="NAME",
        help="Weights to start from: tasks/ID (its result), tasks/ID@step-N, artifacts/ID or models/ID@ALIAS.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A hyperparameter, for example lora.rank=8; repeatable."),
]
Sample = Annotated[
    list[str] | None,
    typer.Option(metavar="PROMPT", help="What the model is asked while it trains; repeatable, at most 5."),
]
File = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", help="The task as JSON or YAML, in the form `task show --json` prints; other options override it."
    ),
]
Priority = Annotated[int | None, typer.Option(min=-100, max=100, help="Waiting tasks with a higher number start first.")]
NotBefore = Annotated[datetime | None, typer.Option(help="Do not start before this local time.")]
MaxAttempts = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="Tries until lost runs and passing failures fail the task.", show_default="3"),
]
Creator = Annotated[
    str | None, typer.Option(envvar="TUNESMITH_CREATOR", help="Who asks for it, in your own words, to find the task by.")
]
Label = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A label of the task, for example project=lab; repeatable."),
]
RunnerLabel = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A label that the runner must have, see `tunesmith runner ls`; repeatable."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow the task until it ends.")]
