"""Which of a task's stored checkpoints are its own, and which of them can answer questions beside its result; pure rules."""

from collections.abc import Sequence

from services.task_manager.domain.origin import ArtifactFacts


def own(stored: Sequence[ArtifactFacts], first_attempt: int) -> list[ArtifactFacts]:
    """Newest step first, as `stored` is. What attempts before `first_attempt` have saved is not the task's any more; of a step
    that two attempts have saved the newest counts, as it does wherever the step is named."""
    newest = {each.step: each for each in reversed(stored) if each.attempt >= first_attempt}
    return list(reversed(newest.values()))


def on_the_way(checkpoints: Sequence[ArtifactFacts], result: ArtifactFacts) -> list[ArtifactFacts]:
    """Those that led to a result, oldest step first: the one of its own step has its weights, and a cut one answers nothing."""
    return sorted((each for each in checkpoints if each.step != result.step and not each.is_cut), key=lambda each: each.step)
