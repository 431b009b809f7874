"""`python -m services.trainer.warm_rank MODULE IMPORTS`: a rank that has imported everything before anybody needs it; started by
`warm_start`. Standard library only until then.

It imports IMPORTS, writes a sign of life into the events pipe, and waits for a line of JSON on standard input: `environment` to
set, `arguments` to go on with. Then it is what `python -m MODULE ARGUMENTS` would be. Without a line it ends.
"""

import importlib
import json
import os
import runpy
import sys

READY = b'{"kind":"beat","step":0,"phase":"busy"}\n'


def main() -> None:
    """Until the process is no longer wanted, or as MODULE."""
    module, imports = sys.argv[1:]
    importlib.import_module(imports)
    os.write(int(os.environ["TUNESMITH_EVENTS_FD"]), READY)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    order = json.loads(line)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
    os.environ.update(order["environment"])
    sys.argv = [module, *order["arguments"]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
