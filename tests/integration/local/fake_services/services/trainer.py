"""Stand-in for the trainer: its run lives in a session of its own, survives SIGTERM and ends with SIGINT."""

import asyncio
import os
import signal
import subprocess
import sys

from services.fake import serve

# The data directory is among the words so that a test can find the run.
command = [sys.executable, "-c", "import time; time.sleep(600)", os.environ["TUNESMITH_TRAINER_DATA_DIR"]]
run = subprocess.Popen(command, start_new_session=True)
if asyncio.run(serve("trainer")) == signal.SIGINT:
    run.kill()
    run.wait()
