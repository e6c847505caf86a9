"""What a trained run is, as one digest of all that predictions depend on."""

import hashlib
import pathlib

from medjax import files

# What predictions depend on, beside the checkpoints.
_FILES = ('config.json', 'facts.json', 'calibration.json')


def digest(workdir) -> str:
  """64 hexadecimal digits of the files that predictions of a run depend on."""
  workdir = pathlib.Path(workdir)
  found = [workdir / name for name in _FILES if (workdir / name).is_file()]
  found += sorted(p for p in workdir.rglob('checkpoints/**/*') if p.is_file())
  if not found:
    raise FileNotFoundError(
      f'{workdir} holds no config.json and no checkpoints: give the workdir of '
      'a run'
    )
  lines = [f'{p.relative_to(workdir)}:{files.digest_of(p)}' for p in found]
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()
