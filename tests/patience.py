"""How long a test waits for what must end by itself, so that no test measures the machine that it runs on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds: many times what a busy machine needs for what is over in a moment; what must not be waited for takes longer.
PATIENCE = 60


@contextmanager
def soon() -> Iterator[None]:
    """Assert that what is done within comes to its end, instead of waiting for a peer, a pause or a long way."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < PATIENCE, "it waited for what it must not wait for, or it does far too much"
