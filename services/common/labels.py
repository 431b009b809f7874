"""How large free key-value pairs may be, those of tasks and those of trainers, which tasks ask for; used by both services."""

MAX_LABELS = 64
MAX_LABEL_KEY = 64
"""Characters; at least one."""
MAX_LABEL_VALUE = 512
"""Characters; none is a value, too."""
