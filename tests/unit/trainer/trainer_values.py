"""Values that several tests of the trainer need."""

import uuid

from services.trainer import conversion
from services.trainer.run import Request
from tunesmith.v1 import task_spec_pb2, trainer_service_pb2

TASK = str(uuid.UUID(int=0xABC))
DATASET = f"datasets/{uuid.UUID(int=1)}"
VALIDATION = f"datasets/{uuid.UUID(int=2)}"
NOW = 1_790_000_000.25


def make_run(**changes: object) -> trainer_service_pb2.Run:
    tuning = task_spec_pb2.FineTuning(base_model="baseModels/tiny", dataset=DATASET)
    numbers = task_spec_pb2.Hyperparameters(learning_rate=0.5, seed=0, num_processes=2, lora=task_spec_pb2.Lora(rank=4))
    numbers.lora.target_modules.append("q_proj")
    run = trainer_service_pb2.Run(
        name=f"runs/{TASK}-1",
        task=f"tasks/{TASK}",
        attempt=1,
        epoch=3,
        spec=task_spec_pb2.TaskSpec(fine_tuning=tuning),
        hyperparameters=numbers,
    )
    for field, value in changes.items():
        setattr(run, field, value)
    return run


def make_request(**changes: object) -> Request:
    return conversion.request_from_proto(make_run(**changes), NOW)
