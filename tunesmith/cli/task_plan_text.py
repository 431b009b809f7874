"""What a task would do, as text for people; used by `task create --dry-run`."""

from tunesmith.cli.output import duration, percent, print_fields, size, talk
from tunesmith.cli.task_text import hyperparameter_lines
from tunesmith.v1.task_manager_service_pb2 import TaskPlan

_BASIS = {
    TaskPlan.EARLIER_RUNS: "from earlier runs of this model here",
    TaskPlan.MEASURED_SPEED: "from the measured speed of the trainer",
}


def print_plan(plan: TaskPlan) -> None:
    """Steps, tokens, time, memory, whether it can be served, every number; warnings are talk."""
    held_out = f", {plan.validation_example_count:,} more held out" if plan.validation_example_count else ""
    # Only fine-tuning has steps that are known before it runs.
    if plan.total_steps:
        print(f"{plan.total_steps:,} steps over {plan.example_count:,} examples{held_out}")
    print_fields(
        [
            ("tokens", _tokens(plan)),
            ("time", _time(plan)),
            ("memory", f"{size(plan.estimated_peak_memory_bytes)} at the peak" if plan.estimated_peak_memory_bytes else ""),
            ("serving", f"not possible: {plan.serving_problem}" if plan.serving_problem else ""),
            ("numbers", "\n".join(hyperparameter_lines(plan.effective_hyperparameters))),
        ]
    )
    for warning in plan.warnings:
        talk(f"warning: {warning}")


def _tokens(plan: TaskPlan) -> str:
    if not plan.token_count:
        return ""
    trained = f"{plan.trainable_token_count:,} carry loss ({percent(plan.trainable_token_count, plan.token_count)})"
    return f"{plan.token_count:,} a pass, {trained}"


def _time(plan: TaskPlan) -> str:
    if not plan.HasField("estimated_duration"):
        return "not known"
    seconds = plan.estimated_duration.ToMilliseconds() / 1000
    basis = _BASIS.get(plan.estimate_basis, "")
    return f"about {duration(seconds)}{f', {basis}' if basis else ''}"
