"""How a region is prepared and measured: `Settings`; those with names."""

import dataclasses
import math

from medjax.build import closest
from medjax.radiomics.averages import AGGREGATIONS

_2D = AGGREGATIONS[:4]
_3D = AGGREGATIONS[4:]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
  """Frozen and hashable: one compiled program for each.

  name: of the settings, or of those they began as.
  standard: the features and rules of IBSI; else those of PyRadiomics 3.
  bin_width, bins: width of a bin of grey levels, or how many there are.
  resample: voxel size in mm for each axis, 0: as it is. None: no resampling.
  cubic: splines of third order in place of linear interpolation.
  whole: resampled intensities are rounded to whole numbers.
  limits: intensities outside are left out of the region. outliers: so are
    those more than so many standard deviations from the mean.
  aggregations: of `averages.AGGREGATIONS`.
  volume_width, volume_bins: of the intensity-volume histogram; with neither
    intensities are whole numbers.
  normalise: the image gets mean 0 and this standard deviation before all.
  shift: added to intensities for their energy.
  filters: of whose responses features are taken too; texts of
    `filters.parse`.
  shapes: of what is no image of intensities, such as a filter's, only the
    intensities and their texture are measured.
  """

  name: str = 'pyradiomics'
  standard: bool = False
  bin_width: float | None = 25.0
  bins: int | None = None
  resample: tuple[float, ...] | None = None
  cubic: bool = True
  whole: bool = False
  limits: tuple[float, float] | None = None
  outliers: float | None = None
  aggregations: tuple[str, ...] = ('3D_avg',)
  volume_width: float | None = None
  volume_bins: int | None = None
  normalise: float | None = None
  shift: float = 0.0
  filters: tuple[str, ...] = ()
  shapes: bool = True

  def __post_init__(self):
    if (self.bins is None) == (self.bin_width is None):
      raise ValueError('radiomics: give a bin width or a number of bins')
    if self.bin_width is not None and not self.bin_width > 0:
      raise ValueError(f'radiomics: a bin width of {self.bin_width}')
    if self.bins is not None and not 1 <= self.bins <= _MOST_BINS:
      raise ValueError(f'radiomics: {self.bins} bins; give 1 to {_MOST_BINS}')
    for name in self.aggregations:
      if name not in AGGREGATIONS:
        raise ValueError(
          f'radiomics: no aggregation {name!r}{closest(name, AGGREGATIONS)}'
        )
    if self.limits is not None and not self.limits[0] <= self.limits[1]:
      raise ValueError(f'radiomics: limits {self.limits}; give LOW,HIGH')
    low = self.limits[0] if self.limits and self.standard else 0.0
    if self.bin_width is not None and not math.isfinite(low):
      raise ValueError(
        'radiomics: bins of a width begin at the lower limit, which must be '
        f'finite: {self.limits}'
      )
    if self.resample is not None and min(self.resample) < 0:
      raise ValueError(f'radiomics: voxels of {self.resample} mm')

  @property
  def finite_limits(self):
    """The limits, where both ends are known."""
    known = self.limits and all(map(math.isfinite, self.limits))
    return self.limits if known else None

  @property
  def of_responses(self):
    """The same for a filter's response, whose values have other limits."""
    return dataclasses.replace(self, shapes=False, limits=None, outliers=None)

  @property
  def ranges(self):
    """Whether dependences and zones are looked for in slices, in space."""
    return {a.startswith('2') for a in self.aggregations}


_MOST_BINS = 4096


def _standard(name, **options):
  return Settings(name=name, standard=True, **options)


# The five configurations of IBSI 1 (reference manual, table 5.1) on a CT, and
# how its digital phantom is measured, whose intensities are grey levels.
PRESETS = {
  'pyradiomics': Settings(),
  'ibsi_A': _standard('ibsi_A', limits=(-500, 400), aggregations=_2D),
  'ibsi_B': _standard(
    'ibsi_B', resample=(2, 2, 0), cubic=False, whole=True, limits=(-500, 400),
    bin_width=None, bins=32, aggregations=_2D,
  ),
  'ibsi_C': _standard(
    'ibsi_C', resample=(2, 2, 2), cubic=False, whole=True, limits=(-1000, 400),
    volume_width=2.5, aggregations=_3D,
  ),
  'ibsi_D': _standard(
    'ibsi_D', resample=(2, 2, 2), cubic=False, whole=True, outliers=3,
    bin_width=None, bins=32, aggregations=_3D,
  ),
  'ibsi_E': _standard(
    'ibsi_E', resample=(2, 2, 2), whole=True, limits=(-1000, 400), outliers=3,
    bin_width=None, bins=32, volume_bins=1000, aggregations=_3D,
  ),
  # IBSI 2, phase 2: its filters by slice, and in space.
  'ibsi2_A': _standard(
    'ibsi2_A', limits=(-1000, 400), aggregations=_2D,
    filters=(
      'mean:5', 'log:1.5', 'laws:L5E5/max/7', 'gabor:5/2/1.5/22.5',
      'wavelet:db3/LH/mean', 'wavelet:db3/HH/2/mean', 'simoncelli:1,2',
    ),
  ),
  'ibsi2_B': _standard(
    'ibsi2_B', resample=(1, 1, 1), whole=True, limits=(-1000, 400),
    aggregations=_3D,
    filters=(
      'mean:5', 'log:1.5', 'laws:L5E5E5/max/7', 'gabor:5/2/1.5/22.5',
      'wavelet:db3/LLH/mean', 'wavelet:db3/HHH/2/mean', 'simoncelli:1,2',
    ),
  ),
  'ibsi_phantom': _standard(
    'ibsi_phantom', bin_width=1.0, aggregations=AGGREGATIONS
  ),
}  # fmt: skip


def find(name):
  """The settings of a name of `PRESETS`; a `Settings` is itself."""
  if isinstance(name, Settings):
    return name
  known = {key.lower(): found for key, found in PRESETS.items()}
  if name.lower() not in known:
    raise ValueError(f'radiomics: no settings {name!r}{closest(name, PRESETS)}')
  return known[name.lower()]
