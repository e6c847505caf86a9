"""Checkpoints that are damaged, and those that only cannot be read now."""

import json
import re
import sys

import jax
from jax.experimental import multihost_utils

# Of a file that is gone or is none: damage. Other errors of the system pass.
_DAMAGE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
# What tensorstore and XLA say of a disk, a net or a memory, and of no file.
_PASSING = re.compile(
  r'\b(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|PERMISSION_DENIED|'
  r'RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): |OS error'
)


def first_line(error):
  """What an error says, in at most 120 letters."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  return lines[0][:120]


def check(error, step):
  """Raises ValueError where a step could not be read, whole or not."""
  system = isinstance(error, OSError) and not isinstance(error, _DAMAGE)
  said = (str(error).strip().splitlines() or [''])[0]
  if system or isinstance(error, MemoryError) or _PASSING.search(said):
    raise ValueError(
      f'{step} could not be read: {first_line(error)}; try again (where it '
      'stays so, move that folder away)'
    ) from error


def without_score(folder):
  """Yields steps whose score cannot be read, on which Orbax does not start."""
  for path in folder.glob('*/metrics/metrics'):
    step = path.parents[1].name
    if not step.isdecimal():  # of a save that is under way
      continue
    try:
      json.loads(path.read_text())['score']
    except (ValueError, KeyError, TypeError):
      yield step


def put_aside(folder, steps):
  """Moves damaged steps out of a folder of checkpoints; none is deleted."""
  if jax.process_index() == 0:
    for step in [*steps]:
      aside = folder.with_name(f'damaged-checkpoint-{step}')
      while aside.exists():
        aside = aside.with_name(f'{aside.name}-too')
      (folder / str(step)).rename(aside)
      print(
        f'medjax: {folder}/{step} is damaged; it is now {aside}',
        file=sys.stderr,
      )
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices('damaged checkpoints are put aside')
