"""The statistics of a dataset as the proto DatasetStatistics spells them; used by `checker`."""

from typing import Any

from services.storage.checking.fingerprints import Repeats
from services.storage.checking.messages import ROLES
from services.storage.checking.tally import Tally


def statistics(tally: Tally, repeats: Repeats) -> dict[str, Any]:
    """DatasetStatistics as JSON."""
    return {
        "example_count": tally.row_count,
        "message_count": tally.roles.total(),
        "messages_by_role": {role: tally.roles[role] for role in ROLES if tally.roles[role]},
        "assistant_character_count": tally.learned_characters,
        "without_system_count": tally.without_system.count,
        "duplicate_count": repeats.exact,
        "near_duplicate_count": repeats.near,
        "last_not_assistant_count": tally.last_not_assistant.count,
        "empty_content_count": tally.empty_content.count,
        "with_tools_count": tally.with_tools,
        "examples_by_turns": dict(sorted(tally.turns.items())),
        "labels": [{"label": label, "example_count": count} for label, count in tally.labels.most_common()],
        "label_count": len(tally.labels.counts),
    }
