"""What cases at the door share: a call that must be refused, in one short line and soon."""

import resource
import sys
import time

import numpy as np
import pytest

LONGEST = 4  # seconds
MOST = 300_000_000  # bytes of memory more than before
UNIT = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss


def refused(call, message, error=ValueError):
    """Check that ``call()`` raises ``error`` with ``message`` in its one line."""
    began, before = time.process_time(), most_memory()
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert message in text, text
    assert len(text.splitlines()) == 1, text
    assert len(text) < 700, f"{len(text)} characters"
    assert time.process_time() - began < LONGEST
    assert most_memory() - before < MOST


def most_memory():
    """Bytes that this process has held at most."""
    return UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def same(call, expected):
    """Check that ``call()`` gives an array of these values."""
    assert np.array_equal(call(), expected)
