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
        files = (
            os.open(name, mode)
            for name, mode in ((os.devnull, os.O_RDONLY), (out, os.O_WRONLY), (err, os.O_WRONLY))
        )
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.environ.update(environment)
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        break
    _, status = os.wait()
    sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    sys.stdout.flush()
