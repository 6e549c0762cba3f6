"""Ctrl-C as a request: the batch in flight is finished first, so that the state stored afterwards is a whole one."""

import contextlib
import signal
import threading


class StopRequested(Exception):
    """Raised between two batches once Ctrl-C was pressed."""


class InterruptGuard(contextlib.AbstractContextManager):
    """Within the block, the first Ctrl-C only sets a flag that `check()` turns into StopRequested; the second one
    raises KeyboardInterrupt at once (files stay whole: they are renamed into place). Outside the main thread Python
    does not deliver signals, and the guard does nothing.
    """

    def __init__(self):
        self.requested = False
        self._previous = None

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *exception):
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None

    def _handle(self, signum, frame):
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def check(self):
        """Raises StopRequested once Ctrl-C was pressed; called between batches."""
        if self.requested:
            raise StopRequested
