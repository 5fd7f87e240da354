"""One contestant, one measurement, one process: `python -m benchmarks.worker JSON`.

Says "ready" when everything is imported. For every line, with the paths of the terminals as JSON, it measures and
prints the figures as JSON. A library that is not there, or fails, is reported in the same way: `{"error": "..."}`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial

from . import loops, measure, measure_blocking
from .contestants import BY_NAME
from .figures import Figures


def main() -> None:
    task = json.loads(sys.argv[1])
    contestant = BY_NAME[task["contestant"]]
    measures = measure_blocking if contestant.loop == "blocking" else measure
    # Libraries may print; the answers go to the original stdout.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        library = contestant.load()
        print("ready", file=answers)
        for paths in map(json.loads, sys.stdin):
            job = partial(getattr(measures, f"bench_{task['measure']}"), library, paths, **task["settings"])
            figures: Figures = job() if contestant.loop == "blocking" else loops.run(contestant.loop, job)
            print(json.dumps(figures), file=answers)
    except Exception as exc:
        print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}), file=answers)
    # A library may have left threads that never end.
    os._exit(0)


if __name__ == "__main__":
    main()
