"""What a task would do, with estimates of time and memory, as a pure function of what is known; used by `planning`."""

import dataclasses
import datetime
import enum
from collections.abc import Sequence

from services.task_manager.domain import advice, duration, four_bit, memory, token_totals
from services.task_manager.domain.findings import Findings
from services.task_manager.domain.hyperparameters import Hyperparameters
from services.task_manager.domain.model_shape import ModelShape
from services.task_manager.domain.steps import steps_per_epoch
from services.task_manager.domain.throughput import RunSpeed, expected_speed
from services.task_manager.domain.token_totals import TokenTotals

_LEAN_FAMILIES = ("llama", "qwen2")
_CUTS_WEIGHTS = 3
"""The ZeRO stage from which on no rank has a weight whole."""


class EstimateBasis(enum.Enum):
    """What an estimate of time rests on; the values are names of TaskPlan.EstimateBasis."""

    NONE = "ESTIMATE_BASIS_UNSPECIFIED"
    EARLIER_RUNS = "EARLIER_RUNS"
    MEASURED_SPEED = "MEASURED_SPEED"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a task would do; fields as in TaskPlan."""

    effective: Hyperparameters
    total_steps: int
    example_count: int
    validation_example_count: int
    token_count: int
    trainable_token_count: int
    estimated_duration: datetime.timedelta | None
    estimate_basis: EstimateBasis
    estimated_peak_memory_bytes: int
    serving_problem: str
    warnings: tuple[str, ...]


def make_plan(findings: Findings, flops_per_second: float, shape: ModelShape | None, earlier: Sequence[RunSpeed]) -> Plan:
    """The plan; `earlier` are runs of the same base model, `shape` None = not known.

    `flops_per_second`: of one process of the slowest trainer that has been measured, 0 = not known.
    """
    effective, rows = findings.effective, findings.rows
    counted = _token_totals(findings)
    time, basis = estimate(findings, flops_per_second, earlier, shape)
    return Plan(
        effective=effective,
        total_steps=effective.max_steps or 1,
        example_count=rows.training,
        validation_example_count=rows.validation,
        token_count=counted.tokens,
        trainable_token_count=counted.trainable,
        estimated_duration=time,
        estimate_basis=basis,
        estimated_peak_memory_bytes=peak_memory(findings, shape),
        serving_problem=_serving_problem(findings),
        warnings=(
            *advice.about_numbers(effective, rows.training),
            *advice.about_tokens(findings.tokens, findings.max_seq_length),
        ),
    )


def _token_totals(findings: Findings) -> TokenTotals:
    known = findings.tokens.known
    return token_totals.totals(known, findings.rows.datasets, findings.max_seq_length) if known else TokenTotals(0, 0)


def estimate(
    findings: Findings, flops_per_second: float, earlier: Sequence[RunSpeed], shape: ModelShape | None = None
) -> tuple[datetime.timedelta | None, EstimateBasis]:
    """How long training will take, and what says so; None when nothing is known to judge by.

    Without `shape` a measurement of the validation loss counts as if all layers had adapters.
    """
    tokens, operations = _token_totals(findings).tokens, _operations(findings, shape)
    speed, basis = expected_speed(findings.run_kind, earlier), EstimateBasis.EARLIER_RUNS
    if speed is None:
        parameters, basis = findings.inputs.base_model.parameter_count, EstimateBasis.MEASURED_SPEED
        speed = duration.speed_of_machine(flops_per_second, parameters, operations)
    if speed is None or not tokens:
        return None, EstimateBasis.NONE
    effective = findings.effective
    work = duration.Work(
        total_steps=effective.max_steps or 1,
        steps_per_epoch=steps_per_epoch(findings.rows.training, effective.global_batch_size or 1),
        tokens_per_epoch=tokens,
        validation_tokens=_validation_tokens(findings),
        eval_steps=effective.eval_steps or 0,
    )
    return duration.expected(work, speed, operations), basis


def _operations(findings: Findings, shape: ModelShape | None) -> float:
    if findings.is_full:
        return duration.FULL
    return duration.of_adapter(shape.tuned_layers(findings.effective.lora.last_layers) / shape.layers if shape else 1.0)


def _validation_tokens(findings: Findings) -> int:
    """Of one measurement; rows that are held out are as long as the others."""
    limit, known = findings.max_seq_length, findings.tokens.known
    if findings.tokens.validation is not None:
        return token_totals.kept_tokens(findings.tokens.validation, limit)
    rows = sum(facts.example_count for facts in known)
    return round(sum(token_totals.kept_tokens(facts, limit) for facts in known) * findings.rows.validation / max(1, rows))


def peak_memory(findings: Findings, shape: ModelShape | None) -> int:
    """That the run will need, all processes together; 0 = not known. `shape` None = guessed from the number of parameters."""
    known, parameters = findings.tokens.known, findings.inputs.base_model.parameter_count
    if not known or not parameters:
        return 0
    effective, shape = findings.effective, shape or ModelShape.guessed(parameters)
    lora = effective.lora
    adapter = shape.adapter_parameters(lora.rank or 0, lora.target_modules, lora.last_layers)
    need = memory.MemoryNeed(
        shape=shape,
        parameter_count=parameters,
        trained_parameters=parameters if findings.is_full else adapter,
        precision=effective.precision or "",
        batch_size=effective.per_device_train_batch_size or 1,
        passes=(effective.gradient_accumulation_steps or 1) if effective.packing else 1,
        longest=min(findings.max_seq_length, max(facts.longest for facts in known)),
        mean=max(facts.token_count / max(1, facts.example_count) for facts in known),
        targets=max(facts.trainable_token_count / max(1, facts.example_count) for facts in known),
        has_four_bits=findings.ask.tuning == four_bit.TUNING,
        is_lean=findings.ask.tuning != four_bit.TUNING and _is_lean(effective, shape),
        dropped_inputs=shape.adapter_inputs(lora.target_modules) if lora.dropout else 0,
        learning_layers=lora.last_layers or 0,
    )
    return memory.peak_bytes(need, effective.num_processes or 1)


def _is_lean(effective: Hyperparameters, shape: ModelShape) -> bool:
    """Whether the trainer will take its lean path on a CPU, as far as can be told from here."""
    is_exact = effective.precision in (None, "", "fp32") and not effective.lora.use_dora
    return is_exact and shape.family in _LEAN_FAMILIES and (effective.zero_stage or 0) < _CUTS_WEIGHTS


def _serving_problem(findings: Findings) -> str:
    # The inference service loads adapters of every rank and module that training can make; only talking may be impossible.
    problem = findings.inputs.base_model.chat_template_problem
    return f"the base model's chat template cannot be used: {problem}" if problem else ""
