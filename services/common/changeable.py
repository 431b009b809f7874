"""What a task that is tried again may change while it continues from a checkpoint: the task manager refuses everything else by
name, and to the training process a checkpoint belongs to every run that is alike but for these.

How often something is written down, how far and how fast it goes on from there, and how a window is cut. Everything else would
make weights, moments or data order those of another task.
"""

CHANGEABLE = frozenset(
    {
        "logging_steps",
        "eval_steps",
        "save_steps",
        "save_interval_seconds",
        "save_total_limit",
        "num_train_epochs",
        "max_steps",
        "learning_rate",
        "lr_scheduler_type",
        "warmup_ratio",
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "non_finite_policy",
        "max_skipped_batches",
        "rehearsal",
        "packing",
        "stall_policy",
        "early_stopping_patience",
        "early_stopping_min_delta",
        "time_limit_seconds",
    }
)
"""Names of hyperparameters."""
