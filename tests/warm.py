"""Runs commands in forks of a process that has imported everything: python -m tests.warm

A line of JSON on standard input is a module of ``experiments``, its arguments, the folder to run it
in, and the files for standard output and error; a line of output is the return code. JAX has not
started before the fork, so a command finds what it finds in a process of its own, a second sooner.
"""

import importlib
import json
import os
import runpy
import sys
import traceback

# No module that defines flags of a command: it runs as __main__.
WANTED = ("commands.live_view", "commands.summary", "learning.pretraining")


def run(module, arguments):
    """Run a command, and leave at once: to take down what was imported takes longer."""
    sys.argv, code = [module, *arguments], 0
    try:
        runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)
    except SystemExit as leave:
        code = leave.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main():
    for name in WANTED:
        importlib.import_module(f"herjax.{name}")
    for line in sys.stdin:
        module, arguments, folder, *files = json.loads(line)
        child = os.fork()
        if not child:
            for stream, path in enumerate(files, start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            os.chdir(folder)
            run(module, arguments)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
