"""The command lines. On Linux they run with huge pages (BUILD_NOTES.md, "Page faults")."""

import os
import signal
import sys

# XLA:CPU takes fresh memory for every program it runs, a gigabyte for a step of pretraining; in
# small pages that costs a quarter of the step. The C library reads this when a process starts.
_run_as_module = sys.orig_argv[1:2] == ["-m"] and sys.orig_argv[2].startswith("experiments.")
_on_linux = sys.platform == "linux"
if _on_linux and _run_as_module and "GLIBC_TUNABLES" not in os.environ:
    os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it waits until it can be told of
    os.execv(sys.executable, sys.orig_argv)

if _run_as_module:
    from herjax_commands import stop_quietly

    stop_quietly()
    if _on_linux:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
