"""Puts the parts of a rank together: model, objective, fast path and engine; used by `__main__` once the data is loaded."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import torch

from services.trainer.training import batch_cut
from services.trainer.training.config import TrainConfig
from services.trainer.training.data import Dataset
from services.trainer.training.deepspeed_config import deepspeed_config
from services.trainer.training.engine import Engine, local_device
from services.trainer.training.export import save_json
from services.trainer.training.fast import FastDecoder, fast_decoder, merged
from services.trainer.training.initial import load_initial, with_initial_model
from services.trainer.training.lanes import most_lanes
from services.trainer.training.model import ObjectiveModule, autocast_dtype, load_model, parameter_counts
from services.trainer.training.objectives.objective import Objective
from services.trainer.training.objectives.packed import can_pack
from services.trainer.training.objectives.registry import OBJECTIVES
from services.trainer.training.precision import with_precision

_log = logging.getLogger("tunesmith.training")


@dataclass(frozen=True, slots=True)
class Assembly:
    """What a rank trains with; the data is arranged as the objective wants it, the numbers are those that this machine takes."""

    config: TrainConfig
    training: Dataset
    validation: Dataset | None
    model: Any
    engine: Engine
    trained: int
    """Numbers of the model that learn."""
    parameters: int
    device: torch.device


def assemble(config: TrainConfig, training: Dataset, validation: Dataset | None) -> Assembly:
    """Loads the model and joins the other ranks; raises ServiceError when the model cannot be used."""
    device = local_device()
    config = with_precision(config, device)
    objective = OBJECTIVES[config.method](training, config.hyperparameters)
    training, validation = objective.arrange(training), validation and objective.arrange(validation)
    model = _model(config, objective, training, device)
    trained, parameters = parameter_counts(model)
    _log.info("%s loaded: %s parameters, %s of them are trained", config.base_model, f"{parameters:,}", f"{trained:,}")
    decoder = fast_decoder(model, config)
    config = _with_merged_batches(config, training, decoder)
    numbers = config.hyperparameters
    module = ObjectiveModule(model, objective, autocast_dtype(config), decoder, packs=numbers.packing and can_pack(model.config))
    lanes = most_lanes(config, objective, is_fast=decoder is not None)
    engine = Engine.start(module, objective, config, device, lanes)
    # The reference is the model before training: it is asked before a checkpoint takes its place.
    if objective.reference_is_stored:
        training = engine.with_reference(training, numbers)
        validation = validation and engine.with_reference(validation, numbers)
    _log.info("engine ready: %s on %s, %s, ZeRO stage %s", numbers.num_processes, device, numbers.precision, numbers.zero_stage)
    if engine.rank == 0:
        save_json(deepspeed_config(config), config.output_dir.parent / "deepspeed.json")
    return Assembly(config, training, validation, model, engine, trained, parameters, device)


def _model(config: TrainConfig, objective: Objective, training: Dataset, device: torch.device) -> Any:
    model = load_model(with_initial_model(config), training.labels, device)
    if config.initial_weights is not None:
        load_initial(model, config.initial_weights)
        # The adapter switched off is the base model, not the model this run starts from.
        objective.reference_is_stored = objective.has_reference
    return model


def _with_merged_batches(config: TrainConfig, training: Dataset, decoder: FastDecoder | None) -> TrainConfig:
    # What was cut because memory ran out must not grow again.
    if decoder is None or not config.hyperparameters.packing or batch_cut.read(config.output_dir):
        return config
    return replace(config, hyperparameters=merged(config.hyperparameters, training.lengths, decoder.bytes_per_token))
