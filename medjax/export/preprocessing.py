"""The preparation of an image as data: a part outside of the program, one in.

Steps of `medjax.data.transforms` that are numbers per channel, cutting off,
shifting and scaling, become 'standardise' steps. Those at the end are a part of
the program; the first of them may need numbers that are measured on the whole
image, and gets them as an argument. Steps of a table are always inside.
"""

import jax.numpy as jnp
import numpy as np

# Steps that shipped/image_files.py knows, as transforms has them.
_KNOWN = {
  'reorient': {'codes'},
  'resample': {'spacing', 'order'},
  'resize': {'shape', 'order', 'antialias'},
  'crop_or_pad': {'shape', 'value', 'mode'},
  'pad_to_multiple': {'k', 'value', 'mode'},
  'crop_foreground': {'threshold', 'margin'},
}
_OF_TABLE = ('standardise', 'compress')
_INTENSITY = ('scale', 'window', 'normalise', 'zscore', 'percentile')


def translated(steps, facts):
  """Steps of an image, those of intensities as 'standardise'; all plain."""
  found, channels = [], facts.channels
  for step in steps:
    options = {k: v for k, v in step.items() if k not in ('name', 'only')}
    only = step.get('only', ())
    only = [only] if isinstance(only, str) else [*only]
    more = {'only': only} if only else {}
    if step['name'] in _OF_TABLE:
      continue
    if step['name'] in _INTENSITY:
      made = _STEPS[step['name']](facts, channels, **options)
      found.append({'name': 'standardise', **made, **more})
      continue
    found.append({'name': step['name'], **options, **more})
    channels += step['name'] == 'append_mask'
    channels *= 3 if step['name'] == 'orthogonal_views' else 1
  return found


def of_table(steps, facts):
  """Steps of a config that are of a table's columns, with their numbers."""
  found = []
  for step in steps:
    if step['name'] == 'standardise':
      rows = step.get('statistics') or facts.covariate_statistics
      mean, deviation = np.asarray(rows, float).reshape(-1, 2).T.tolist()
      found.append(
        {'name': 'standardise', 'mean': mean, 'deviation': deviation}
      )
    elif step['name'] == 'compress':
      factor = float(step.get('factor', 3.0))
      found.append({'name': 'compress', 'factor': factor})
  return found


def unsupported(steps, facts):
  """What of translated steps only medjax does; '' if nothing."""
  for name, n in zip(facts.further_images, facts.further_channels, strict=True):
    if n != facts.channels:  # the numbers of steps are those of the first image
      return f'{name}, of {n} channels beside an image of {facts.channels}'
  for step in steps:
    name = step['name']
    if name == 'standardise':
      continue
    if name not in _KNOWN or {*step} - {'name', 'only'} - _KNOWN[name]:
      return name
    if step.get('order', 'linear') != 'linear':
      return f'{name} of order {step["order"]}'
  return ''


def divided(steps, *, windows):
  """(outside, inside, fill) of translated steps.

  fill: by channel, what inside makes 0, before which the measured shift and
  scale are undone; windows that reach beyond an image are filled with it.
  Where nothing would be, or numbers depend on an earlier step, more is outside.
  """
  at = len(steps)
  while at and steps[at - 1]['name'] == 'standardise':
    at -= 1
    if steps[at].get('measured'):
      break
  for first in range(at, len(steps) + 1):
    inside = steps[first:]
    if any(step.get('measured') for step in inside[1:]):
      continue
    fill = _before(inside)
    if fill is not None or not windows or not inside:
      return steps[:first], inside, [0.0] if fill is None else fill
  raise AssertionError('the last of them is nothing inside')


def _before(steps):
  """By channel, what the steps make 0; None where nothing is."""
  value = 0.0
  for step in reversed(steps):
    if (step.get('measured') or {}).get('nonzero'):
      return [0.0] * len(step['low']) if np.all(value == 0) else None
    if step.get('unit') and not np.all((value >= 0) & (value <= 1)):
      return None
    if step.get('measured'):
      return np.broadcast_to(value, len(step['low'])).tolist()
    value = value * np.array(step['scale']) + np.array(step['shift'])
    low, high = (np.array(step[k], float) for k in ('low', 'high'))
    if (value < low).any() or (value > high).any():
      return None
  return np.atleast_1d(value).tolist()


def apply(steps, image, statistics):
  """The steps inside of a program: (b, *s, C) → the same.

  statistics: (b, 2, C) of the first of them, where that is measured.
  """
  for step in steps:
    low, high = (
      jnp.array([np.nan if v is None else v for v in step[k]], jnp.float32)
      for k in ('low', 'high')
    )
    shift = jnp.array(step['shift'], jnp.float32)
    scale = jnp.array(step['scale'], jnp.float32)
    out = image
    if np.isfinite(np.array(step['low'] + step['high'], float)).any():
      out = jnp.clip(
        out,
        jnp.where(jnp.isnan(low), -jnp.inf, low),
        jnp.where(jnp.isnan(high), jnp.inf, high),
      )
    if step.get('measured'):
      axes = tuple(range(1, image.ndim - 1))
      shift, scale = (jnp.expand_dims(statistics[:, i], axes) for i in range(2))
    out = (out - shift) / scale
    if step.get('unit'):
      out = jnp.clip(out, 0, 1)
    if (step.get('measured') or {}).get('nonzero'):
      out = jnp.where(image != 0, out, 0)
    image = out
  return image


def apply_table(steps, covariates):
  """The steps of a table's columns inside of a program: (b, f) → the same."""
  for step in steps:
    if step['name'] == 'compress':
      covariates = jnp.arcsinh(step['factor'] * covariates)
    else:
      mean, deviation = (
        jnp.array(step[k], jnp.float32) for k in ('mean', 'deviation')
      )
      covariates = (covariates - mean) / deviation
  return covariates


# Each step of intensities as what is cut off, shifted and divided by.


def _plain(channels, **more):
  """Nothing happens to any channel."""
  none = [None] * channels
  same = dict(low=list(none), high=list(none))
  return same | dict(shift=[0.0] * channels, scale=[1.0] * channels) | more


def _measured(channels, kinds, **more):
  return dict(
    kinds=kinds, shift=[0.0] * channels, scale=[1.0] * channels, **more
  )


def _chosen(channels, given):
  return range(channels) if given is None else given


def _scale(facts, n, mean=0.0, std=255.0, low=None, high=None, channels=None):
  del facts
  step, chosen = _plain(n), list(_chosen(n, channels))
  for key, values in dict(shift=mean, scale=std, low=low, high=high).items():
    if values is not None:
      each = np.broadcast_to(np.asarray(values, float), len(chosen))
      for c, value in zip(chosen, each, strict=True):
        step[key][c] = float(value)
  return step


def _window(facts, n, low, high):
  del facts
  return _plain(
    n, shift=[float(low)] * n, scale=[float(high) - float(low)] * n, unit=True
  )


def _zscore(facts, n, nonzero=False, channels=None):
  del facts
  chosen = _chosen(n, channels)
  kinds = ['zscore' if c in chosen else '' for c in range(n)]
  if nonzero and '' in kinds:
    raise ValueError(
      'export knows no zscore of some channels with nonzero: leave one out'
    )
  return _plain(n, measured=_measured(n, kinds, nonzero=nonzero))


def _percentile(facts, n, low=0.5, high=99.5):
  del facts
  kinds = ['percentile'] * n
  return _plain(
    n, unit=True, measured=_measured(n, kinds, percentiles=[low, high])
  )


def _normalise(facts, n):
  schemes = facts.normalisation or ('zscore',)
  schemes = schemes * n if len(schemes) == 1 else schemes
  step, kinds = _plain(n), [''] * n
  for c, scheme in enumerate(schemes):
    if scheme == 'rgb_0_1':
      step['scale'][c] = 255.0
    elif scheme == 'ct':
      mean, std, low, high = facts.statistics[c]
      step['shift'][c], step['scale'][c] = mean, std
      step['low'][c], step['high'][c] = low, high
    elif scheme in ('zscore', 'rescale_0_1'):
      kinds[c] = 'zscore' if scheme == 'zscore' else 'range'
  if any(kinds):
    step['measured'] = _measured(n, kinds) | dict(
      shift=step['shift'], scale=step['scale']
    )
  return step


_STEPS = {
  'scale': _scale,
  'window': _window,
  'zscore': _zscore,
  'percentile': _percentile,
  'normalise': _normalise,
}
