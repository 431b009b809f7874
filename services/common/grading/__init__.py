"""What graders are, whether they make sense, and the number each gives an answer: known to the task manager, which refuses wrong
ones, the trainer, which runs them over datasets, and the gateway, which runs one on one answer. No network, no model."""
