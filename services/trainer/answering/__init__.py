"""The process of a run that asks models, an evaluation or a generation: over gRPC, without torch."""
