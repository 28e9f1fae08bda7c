"""One search in a process of its own, to be killed: python tune_process.py FOLDER RESULT."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import quantlab
from quantlab.api.tuning import TuningRequest, tune
from quantlab.tune import trials
from quantlab.tune.target import Target
from tune_double import TimedRuntime, deep_net, images


def main() -> None:
    runtime = TimedRuntime()
    trials.bench = runtime.bench  # type: ignore[assignment]
    model = deep_net()
    table = quantlab.calibrate(model, images(), "minmax", tensors="all")
    print("begun", flush=True)
    request = TuningRequest(table, images(), Path(sys.argv[1]), Target(min_sqnr_db=40), runtime=runtime)
    found = tune(model, request).to_dict()
    del found["spent_s"]  # a build that was cut off took its time too
    Path(sys.argv[2]).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
