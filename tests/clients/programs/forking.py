"""Run by the Python of a venv: imports a client once, and forks for each program that a line names."""

import importlib
import json
import os
import runpy
import sys

importlib.import_module(sys.argv[1])
for line in sys.stdin:
    arguments, environment, out, err = json.loads(line)
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(out, os.O_WRONLY), 1)
        os.dup2(os.open(err, os.O_WRONLY), 2)
        os.environ.update(environment)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        break
    _, status = os.wait()
    sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    sys.stdout.flush()
