"""What the fake training process is told to do, where several tests tell it the same."""

PLAN = {
    "kind": "training_started",
    "total_steps": 3,
    "example_count": 6,
    "token_count": 60,
    "target_token_count": 20,
    "trainable_parameter_count": 8,
    "parameter_count": 80,
    "num_processes": 1,
    "device": "cpu",
    "precision": "fp32",
}
GOOD = (
    {"do": "say", "text": "loading"},
    {"do": "events", "events": [PLAN]},
    {"do": "steps", "first": 1, "last": 3},
    {"do": "result", "step": 3},
)

RUNS_ON = ({"do": "steps", "first": 1, "last": 2}, {"do": "make", "file": "ready"}, {"do": "sleep", "seconds": 600})
"""Two steps, then a sign of life, then nothing for a long time."""

HELD = ({"do": "steps", "first": 1, "last": 2}, {"do": "make", "file": "ready"}, {"do": "wait_for", "file": "go"})
"""Two steps, then waits for the test's permission; to be followed by how it ends."""
