"""How an export tells how far it is: in the words of every run."""

import json
import logging
import os

from services.trainer.training.events import FdSink
from services.trainer.training.exporting.stages import Stages
from services.trainer.training_events import parse


def test_every_stage_is_an_event_the_supervisor_takes() -> None:
    reading, writing = os.pipe()
    stages = Stages(FdSink(writing), logging.getLogger("test"))

    stages.begin(2, {"parameter_count": 5, "device": "cpu"})
    stages.next("loaded")
    stages.alive()
    stages.next("done", share=0.25)

    os.close(writing)
    with os.fdopen(reading, "rb") as lines:
        events = [parse(line, 0) for line in lines]
    assert [event.kind for event in events] == ["training_started", "metrics", "beat", "beat", "metrics", "beat"]
    started, first, *_, last, _ = events
    assert (started.fields["total_steps"], started.fields["parameter_count"], started.fields["example_count"]) == (2, 5, 0)
    assert (first.fields["step"], first.fields["values"]) == (1, {})
    assert (last.fields["step"], last.fields["values"]) == (2, {"share": 0.25})
    assert json.dumps(events[3].fields) == '{"step": 1, "phase": "busy", "rank": 0}'
    assert stages.done == 2
