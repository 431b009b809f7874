"""Reads what it is told to, says what it is told to, ends as it is told to."""

import json
import os
import sys

script = json.loads(os.environ["FAKE_PROGRAM"])
received = sys.stdin.buffer.read(script.get("reads", -1))
if path := script.get("notes"):
    with open(path, "w") as notes:
        json.dump({"arguments": sys.argv[1:], "received": received.decode()}, notes)
padding = "x" * script.get("padding", 0)
sys.stdout.write((padding + "\n" if padding else "") + script.get("stdout", ""))
sys.stderr.write(padding + script.get("stderr", ""))
sys.exit(script.get("exit_code", 0))
