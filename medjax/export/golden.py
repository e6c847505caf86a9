"""Cases with known answers, which lie beside an exported run.

Their images are drawn, not taken: no patient leaves with the model.
"""

import importlib
import pathlib
import sys

import numpy as np

from medjax import files
from medjax.finetune import files as weight_files
from medjax.prediction.predictor import Predictor

CASES = 3
TOLERANCE = 1e-5
_SHIPPED = pathlib.Path(__file__).parent / 'shipped'


def script():
  """The module of run.py."""
  if str(_SHIPPED) not in sys.path:
    sys.path.insert(0, str(_SHIPPED))
  return importlib.import_module('run')


def cases(made, count=CASES):
  """Raw cases of smooth noise, of the size and spacing of the training's."""
  facts, found = made.facts, []
  further = zip(facts.further_images, facts.further_channels, strict=True)
  channels = {'image': facts.channels, **dict(further)}
  spacing = facts.spacing or (1.0,) * facts.rank
  least = made.data.patch_size or (0,) * facts.rank
  shape = [
    min(n, max(p + 8, 48)) if p else n
    for n, p in zip(facts.shape or least, least, strict=True)
  ]
  for seed in range(count):
    rng = np.random.default_rng(seed)
    case = {'id': f'golden{seed}', 'patient': f'golden{seed}'}
    for name in made.task.inputs:
      if name == 'covariates':
        case[name] = _columns(rng, facts)
      elif name == 'text':
        raise ValueError('export knows no text as an input of a model')
      else:
        case[name] = _noise(rng, (*shape, channels[name]))
    if 'image' in case:
      case['affine'] = np.diag([*spacing, 1.0])
      case['spacing'] = np.asarray(spacing, float)
    if any(
      x['name'] == 'append_mask' for x in made.config['data']['preprocess']
    ):
      case['mask'] = (case['image'][..., 0] > 128).astype(np.uint8)
    found.append(case)
  return found


def _columns(rng, facts):
  """A row of a table, near what the training had."""
  count = len(facts.covariate_names)
  moments = facts.covariate_statistics or ((0.0, 1.0),) * count
  mean, deviation = np.array(moments, float).reshape(-1, 2).T
  return (mean + deviation * rng.normal(size=count)).astype(np.float32)


def _noise(rng, shape):
  """Values of 0 to 255: few waves, and noise."""
  axes = np.meshgrid(*(np.linspace(0, 1, n) for n in shape[:-1]), indexing='ij')
  waves = sum(
    np.sin(2 * np.pi * (rng.integers(1, 4) * x + rng.random())) for x in axes
  )
  image = 100 + 40 * waves[..., None] + rng.normal(0, 15, shape)
  return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def write(path, run, given, info):
  """Writes golden.npz: the cases and what the run predicts of them."""
  predictor, arrays = predictor_of(run), {}
  for i, case in enumerate(given):
    kept = recorded(run, predictor, case, info)
    arrays |= {f'{i}/{name}': array for name, array in kept.items()}
  with files.replacing(path, 'wb') as f:
    np.savez_compressed(f, **arrays)


def predictor_of(run):
  """What predicts the cases: the run, and the probabilities of maps."""
  return Predictor(run.experiment, maps=True).with_weights(*run.variables)


def recorded(run, predictor, case, info):
  """{name: array} of a raw case: what goes in, and 'out/NAME', what comes out.

  Where scripts cannot prepare it, it is the prepared case.
  """
  names = [k for k in ('affine', *run.task.inputs) if k in case]
  sample = run.experiment.prepare(case)
  kept = {name: np.asarray(case[name]) for name in names}
  if info['unsupported']:
    table = {k: kept[k] for k in kept if k == 'covariates'}
    kept = {name: np.asarray(sample[name]) for name in names} | table
    raw = {**sample, 'id': case['id'], 'patient': case['patient']}
    sample = {**sample, 'raw': raw}
  ((_, found),) = predictor([sample])
  value = found.prediction
  if found.probabilities is not None:
    return kept | {'out/prediction': found.probabilities, 'out/labels': value}
  if info['calibrated']:
    last = run.task.calibrated(value, run.calibration)
    last = last['probability'] if isinstance(last, dict) else last
    kept['out/calibrated'] = np.ravel(last)
  if isinstance(value, dict):
    return kept | {f'out/{k}': v for k, v in value.items()}
  return kept | {'out/prediction': value}


def read_weights(folder):
  """{name: float32 array} of an exported folder."""
  return weight_files.read(pathlib.Path(folder) / 'weights.safetensors')


def compare(folder, backend):
  """The largest error of each output over the golden cases, by a backend.

  {'prediction': …, 'labels': share of voxels that differ and are no ties}.
  """
  model, worst = script().programs.Model(folder, backend), {}
  with np.load(pathlib.Path(folder) / 'golden.npz', allow_pickle=False) as kept:
    stored = dict(kept)
  for i in range(CASES):
    case = {
      k.partition('/')[2]: v for k, v in stored.items() if k.startswith(f'{i}/')
    }
    for name, error in errors(model, case).items():
      worst[name] = max(worst.get(name, 0.0), error)
  return worst


def errors(model, case):
  """{output: its largest error} of a recorded case, by a `programs.Model`."""
  given, wanted, found = {}, {}, {}
  for name, array in case.items():
    kind, _, output = name.rpartition('/')
    (wanted if kind else given)[output] = array
  image, affine = given.pop('image', None), given.pop('affine', None)
  image = image if image is None else image.astype(np.float32)
  if model.info['unsupported']:
    made = script().programs.infer(model, image, **given)
  else:
    made = script().predict(model, image, affine, **given)
  for name, array in wanted.items():
    if name != 'labels':
      found[name] = float(np.abs(made[name] - array).max())
    elif name in made:
      found[name] = _moved(made, array, wanted['prediction'])
  return found


def _moved(found, labels, probabilities):
  """Share of voxels of another label, ties of the two likeliest left out."""
  sure = (np.abs(probabilities - 0.5) > TOLERANCE).all(-1)
  if probabilities.shape[-1] > 1:
    ordered = np.sort(probabilities, -1)
    sure &= ordered[..., -1] - ordered[..., -2] > 2 * TOLERANCE
  return float(((found['labels'] != labels) & sure).mean())
