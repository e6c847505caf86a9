"""What a trained run is, as one digest of all that predictions depend on."""

import hashlib
import pathlib

from medjax import files

# Of a run, then of its members or folds; a baseline in tabular/ is none.
_FILES = (
  'config.json', 'facts.json', 'calibration.json', 'novelty.npz',
  'fold*/facts.json', 'checkpoints/**/*', 'member*/checkpoints/**/*',
  'fold*/checkpoints/**/*',
)  # fmt: skip


def digest(workdir) -> str:
  """64 hexadecimal digits of the files that predictions of a run depend on."""
  workdir = pathlib.Path(workdir)
  found = [
    path
    for pattern in _FILES
    for path in sorted(workdir.glob(pattern))
    if path.is_file()
  ]
  if not found:
    raise FileNotFoundError(
      f'{workdir} holds no config.json and no checkpoints: give the workdir of '
      'a run'
    )
  lines = [f'{p.relative_to(workdir)}:{files.digest_of(p)}' for p in found]
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()
