"""Filters of IBSI 2, told as text: `parse('log:1,3') → Filters`.

mean:5                      over so many voxels
log:1,2,3                   Laplacian of Gaussian, σ in mm
laws:E3W5R5                 …/max or /mean over turns, …/7: energy around
gabor:5/2/1.5               σ and wavelength in mm, γ; …/22.5: over angles
wavelet:coif1               all bands; …/LLH, …/2: level, …/mean over turns
simoncelli:1,2              levels; …/010 Riesz' order
riesz:3/100                 of the Laplacian of Gaussian, σ in mm, order
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from medjax.build import closest
from medjax.radiomics import prepare
from medjax.radiomics.filters import kernels, wavelets

_BOUNDARY = 'mirror'
KINDS = ('mean', 'log', 'laws', 'gabor', 'wavelet', 'simoncelli', 'riesz')


@dataclasses.dataclass(frozen=True)
class Filter:
  """One response: its name in columns, and how it is made.

  apply: (image, spacing (3,), planar) → response. reach: in mm or voxels, what
  is more, of the image that a voxel depends on; None: all of it.
  """

  name: str
  apply: object
  reach: float | None


def parse(text):
  """The `Filter`s that a text like 'log:1,2' tells.

  Raises ValueError for what none is.
  """
  kind, _, rest = text.partition(':')
  if kind not in KINDS:
    raise ValueError(f'--filters: no filter {kind!r}{closest(kind, KINDS)}')
  found = []
  for argument in filter(None, map(str.strip, rest.split(','))):
    try:
      found += globals()[f'_{kind}'](*argument.split('/'))
    except (TypeError, ValueError, KeyError):
      line = next(x for x in __doc__.splitlines() if x.strip().startswith(kind))
      raise ValueError(
        f'--filters={kind}:{argument}: not understood; as in '
        f'{" ".join(line.split())}'
      ) from None
  if not found:
    raise ValueError(f'--filters={text}: names nothing, as in log:1,3')
  return found


def _mean(size):
  size = int(size)
  if size < 1 or size % 2 == 0:
    raise ValueError(size)

  def apply(image, spacing, planar):
    return kernels.mean(image, size=size, boundary=_BOUNDARY, planar=planar)

  return [Filter(f'mean-{size}', apply, size)]


def _log(sigma):
  mm = _positive(sigma)

  def apply(image, spacing, planar):
    return kernels.laplacian(
      image, sigma=mm / spacing, boundary=_BOUNDARY, planar=planar
    )

  name = f'log-sigma-{mm:g}-mm'.replace('.', '-')
  return [Filter(name, apply, 4 * mm + 1)]


def _laws(names, *options):
  pooling = next((o for o in options if o in ('max', 'mean')), None)
  energy = next((int(o) for o in options if o.isdigit()), None)
  if len(options) != (pooling is not None) + (energy is not None):
    raise ValueError(options)
  if len(names) not in (4, 6):
    raise ValueError(names)
  for i in range(0, len(names), 2):
    kernels.LAWS[names[i : i + 2]]

  def apply(image, spacing, planar):
    if planar != (len(names) == 4):
      raise ValueError(
        f'laws:{names}: has {len(names) // 2} kernels; settings by slice need '
        '2, those in space 3'
      )
    return kernels.laws(
      image, kernels=names, boundary=_BOUNDARY, invariant=pooling,
      energy=energy, planar=planar,
    )  # fmt: skip

  name = '-'.join(['laws', names, *options])
  return [Filter(name, apply, 2 + (energy or 0))]


def _gabor(sigma, wavelength, gamma='1', step=None):
  mm, wave, ratio = map(_positive, (sigma, wavelength, gamma))
  by = None if step is None else _positive(step)

  def apply(image, spacing, planar):
    size = spacing[0]
    return kernels.gabor(
      image, sigma=mm / size, wavelength=wave / size, gamma=ratio, step=by,
      boundary=_BOUNDARY, planar=planar,
    )  # fmt: skip

  name = '-'.join(filter(None, ['gabor', sigma, wavelength, gamma, step]))
  reach = kernels.GABOR_REACH * mm * max(1, 1 / ratio)
  return [Filter(name.replace('.', 'p'), apply, reach)]


def _wavelet(family, *options):
  wavelets.LOW[family]
  bands = [o for o in options if set(o) <= {'L', 'H'}]
  level = next((int(o) for o in options if o.isdigit()), 1)
  pooling = next((o for o in options if o in ('mean', 'max')), None)
  known = bands + [o for o in options if o.isdigit() or o in ('mean', 'max')]
  if sorted(known) != sorted(options) or level < 1:
    raise ValueError(options)

  def one(band):
    def apply(image, spacing, planar):
      chosen = band[:2] if planar else band
      return wavelets.separable(
        image, family=family, bands=chosen, level=level, boundary=_BOUNDARY,
        invariant=pooling, planar=planar,
      )  # fmt: skip

    rest = [str(level)] * (level > 1) + [pooling] * (pooling is not None)
    name = '-'.join(['wavelet', family, band, *rest])
    reach = len(wavelets.LOW[family]) * 2**level
    return Filter(name, apply, reach)

  return [
    one(b) for b in bands or map(''.join, itertools.product('LH', repeat=3))
  ]


def _simoncelli(level, order=None):
  number, turn = int(level), None if order is None else _order(order)

  def apply(image, spacing, planar):
    return wavelets.simoncelli(
      image, level=number, order=turn, boundary='periodic', planar=planar
    )

  name = '-'.join(filter(None, ['simoncelli', level, order]))
  return [Filter(name, apply, None)]


def _riesz(sigma, order):
  mm, turn = _positive(sigma), _order(order)

  def apply(image, spacing, planar):
    return wavelets.riesz_laplacian(image, sigma=mm / spacing, order=turn)

  return [Filter(f'riesz-{sigma}-{order}'.replace('.', 'p'), apply, None)]


def _order(text):
  if len(text) != 3 or not text.isdigit():
    raise ValueError(text)
  return tuple(map(int, text))


def _positive(text):
  value = float(text)
  if not 0 < value < 1e4:
    raise ValueError(text)
  return value


def filtered_regions(image, mask, spacing, text, settings):
  """{name: `prepare.Region`} of the responses to what a text tells."""
  planar = settings.ranges == {True}
  found = {}
  for one in parse(text):

    def respond(values, size, one=one):
      with jax.enable_x64(True):
        return np.asarray(_compiled(one, tuple(size), planar)(values))

    found[one.name] = prepare.region(
      image, mask, spacing, settings, respond=respond, reach=one.reach
    )
  return found


@functools.lru_cache(maxsize=64)
def _compiled(one, size, planar):
  return jax.jit(lambda v: one.apply(jnp.asarray(v), np.array(size), planar))
