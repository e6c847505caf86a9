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
  spacing = facts.spacing or (1.0,) * facts.rank
  least = made.data.patch_size or (0,) * facts.rank
  shape = [
    min(n, max(p + 8, 48)) if p else n
    for n, p in zip(facts.shape or least, least, strict=True)
  ]
  for seed in range(count):
    rng = np.random.default_rng(seed)
    case = {
      'image': _noise(rng, (*shape, facts.channels)),
      'affine': np.diag([*spacing, 1.0]),
      'spacing': np.asarray(spacing, float),
      'id': f'golden{seed}',
      'patient': f'golden{seed}',
    }
    for name in made.task.inputs[1:]:
      if name == 'covariates':
        case[name] = rng.normal(size=len(facts.covariate_names)).astype('f4')
      elif name == 'text':
        raise ValueError('export knows no text as an input of a model')
      else:
        case[name] = _noise(rng, case['image'].shape)
    found.append(case)
  return found


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
  predictor = Predictor(run.experiment, maps=True).with_weights(*run.variables)
  arrays = {}
  for i, case in enumerate(given):
    arrays |= {
      f'{i}/{name}': case[name] for name in ('affine', *run.task.inputs)
    }
    if info['unsupported']:  # then what comes after it is compared
      sample = run.experiment.prepare(case)
      arrays |= {f'{i}/{k}': np.asarray(sample[k]) for k in run.task.inputs}
      arrays[f'{i}/affine'] = np.asarray(sample['affine'])
    arrays |= {
      f'{i}/{k}': v for k, v in _predicted(run, predictor, case, info).items()
    }
  with files.replacing(path, 'wb') as f:
    np.savez_compressed(f, **arrays)


def _predicted(run, predictor, case, info):
  """{'out/NAME': array} of a case."""
  sample = run.experiment.prepare(case)
  if info['unsupported']:
    raw = {**sample, 'id': case['id'], 'patient': case['patient']}
    sample = {**sample, 'raw': raw}
  ((_, found),) = predictor([sample])
  value = found.prediction
  if isinstance(value, dict):
    return {f'out/{k}': v for k, v in value.items()}
  if found.probabilities is None:
    return {'out/prediction': value}
  return {'out/prediction': found.probabilities, 'out/labels': value}


def read_weights(folder):
  """{name: float32 array} of an exported folder."""
  return weight_files.read(pathlib.Path(folder) / 'weights.safetensors')


def compare(folder, backend):
  """The largest error of each output over the golden cases, by a backend.

  {'prediction': …, 'labels': share of voxels that differ and are no ties}.
  """
  shipped = script()
  model = shipped.programs.Model(folder, backend)
  info, worst = model.info, {}
  with np.load(pathlib.Path(folder) / 'golden.npz', allow_pickle=False) as kept:
    stored = dict(kept)
  for i in range(CASES):
    part = {
      k.partition('/')[2]: v for k, v in stored.items() if k.startswith(f'{i}/')
    }
    image, affine = part.pop('image').astype(np.float32), part.pop('affine')
    wanted = {k[4:]: v for k, v in part.items() if k.startswith('out/')}
    others = {k: v for k, v in part.items() if not k.startswith('out/')}
    if info['unsupported']:
      found = shipped.programs.infer(model, image, **others)
    else:
      found = shipped.predict(model, image, affine, **others)
    for name, array in wanted.items():
      if name == 'labels':
        if 'labels' not in found:
          continue
        error = _moved(found, array, wanted['prediction'])
      else:
        error = float(np.abs(found[name] - array).max())
      worst[name] = max(worst.get(name, 0.0), error)
  return worst


def _moved(found, labels, probabilities):
  """Share of voxels of another label, ties of the two likeliest left out."""
  sure = (np.abs(probabilities - 0.5) > TOLERANCE).all(-1)
  if probabilities.shape[-1] > 1:
    ordered = np.sort(probabilities, -1)
    sure &= ordered[..., -1] - ordered[..., -2] > 2 * TOLERANCE
  return float(((found['labels'] != labels) & sure).mean())
