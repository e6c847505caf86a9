"""What the commands say of an exported run."""

import datetime
import importlib.util
import pathlib

from medjax import cli, files
from medjax.export import artefact, golden

# By the bits of its numbers, what a model may differ by: with fewer it is to be
# near the run, not the same.
_LIMITS = {
  32: {'labels': 0.0, '': golden.TOLERANCE},
  16: {'labels': 0.01, '': 0.05},
  8: {'labels': 0.1, '': 0.5},
}


def contents(folder, info):
  """A line for each file."""
  rows = [
    [name, f'{(pathlib.Path(folder) / name).stat().st_size / 1e6:.2f}']
    for name in info['files']
  ]
  return cli.aligned(['file', 'MB'], rows, 'lr')


def check(folder):
  """Prints the errors on the golden cases by each backend that is there.

  Raises ValueError where one predicts otherwise, or has expired.
  """
  info = files.read_json(
    pathlib.Path(folder) / 'model.json', mend='take another copy'
  )
  if info is None:
    raise FileNotFoundError(f'{folder} holds no model.json: export into it')
  late = datetime.date.today().isoformat() > info.get('expires', '9')
  backends = ['jax'] if info['programs'] else []
  if 'model.onnx' in info['files']:
    has = importlib.util.find_spec('onnxruntime') is not None
    backends += ['onnx'] if has else []
    if not has:
      print('model.onnx is not checked: pip install onnxruntime')
  if 'jax' in backends:
    artefact.needs('flatbuffers')
  wrong = []
  for backend in backends:
    if backend == 'jax' and late:
      raise ValueError(
        f'the programs of {folder} expired on {info["expires"]}: medjax export '
        f'check {folder} --refresh writes them anew'
      )
    worst = golden.compare(folder, backend)
    text = ', '.join(f'{k} {v:.1e}' for k, v in worst.items())
    print(f'{backend}: largest error on {golden.CASES} golden cases: {text}')
    limits = _LIMITS[info.get('quantised', {}).get('bits', 32)]
    limit = lambda name, limits=limits: limits.get(name, limits[''])
    wrong += [backend for k, v in worst.items() if not v <= limit(k)]
  if wrong:
    raise ValueError(
      f'{folder} predicts otherwise than the run by {" and ".join(wrong)}: '
      'export it again'
    )
