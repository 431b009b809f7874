"""What graders are and whether they make sense: known to the task manager, which refuses wrong ones, and the trainer, which runs
them. No network, no model."""
