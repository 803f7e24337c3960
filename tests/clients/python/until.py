"""Waiting for a condition, never for an amount of time."""

import time


def until(what, look, limit=60):
    """The first true answer of `look`."""
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
