"""A change to the whole process that several threads are within at once."""

import threading


class Shared:
  """A context that the first of several threads enters, and the last leaves.

  make: () → the context manager that is entered.
  """

  def __init__(self, make):
    self._make, self._lock = make, threading.Lock()
    self._inside, self._context = 0, None

  def __enter__(self):
    with self._lock:
      if not self._inside:
        self._context = self._make()
        self._context.__enter__()
      self._inside += 1

  def __exit__(self, *_):
    with self._lock:
      self._inside -= 1
      if not self._inside:
        self._context.__exit__(None, None, None)
