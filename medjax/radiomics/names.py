"""What features are called: columns, units, and the codes of the standard.

Columns are 'image_family_Feature', as PyRadiomics has them, and of what it has
not in the same manner. Several aggregations are told apart by '_2D_avg' and
their like at the end.
"""

import functools
import math
from typing import NamedTuple


class Feature(NamedTuple):
  """A feature: its family and name in a column, the standard's code, its unit.

  code: four signs of the IBSI reference manual, '' for what it does not have.
  unit: '' for a pure number; 'intensity' is that of the image.
  """

  family: str
  name: str
  code: str = ''
  unit: str = ''


# Key of `measure` without family and aggregation → name, code. Codes of the
# matrices of sizes follow one another in one order: runs, zones, distances,
# dependences.
_SHAPE = """
volume MeshVolume RNU0 mm3
vol_approx VoxelVolume YEKZ mm3
area_mesh SurfaceArea C0JK mm2
av SurfaceVolumeRatio 2PR5 1/mm
comp_1 Compactness1 SKGS
comp_2 Compactness2 BQWJ
sph_dispr SphericalDisproportion KRCK
sphericity Sphericity QCFX
asphericity Asphericity 25C7
com CentreOfMassShift KLMA mm
diam Maximum3DDiameter L0JK mm
diam_slice Maximum2DDiameterSlice - mm
diam_column Maximum2DDiameterColumn - mm
diam_row Maximum2DDiameterRow - mm
pca_maj_axis MajorAxisLength TDIC mm
pca_min_axis MinorAxisLength P9VJ mm
pca_least_axis LeastAxisLength 7J51 mm
pca_elongation Elongation Q3CK
pca_flatness Flatness N17B
vol_dens_aabb VolumeDensityAABB PBX1
area_dens_aabb AreaDensityAABB R59B
vol_dens_ombb VolumeDensityOMBB ZH1A
area_dens_ombb AreaDensityOMBB IQYR
vol_dens_aee VolumeDensityAEE 6BDE
area_dens_aee AreaDensityAEE RDD2
vol_dens_mvee VolumeDensityMVEE SWZ1
area_dens_mvee AreaDensityMVEE BRI8
vol_dens_conv_hull VolumeDensityConvexHull R3ER
area_dens_conv_hull AreaDensityConvexHull 7T7F
integ_int IntegratedIntensity 99N0 intensity·mm3
moran_i MoransI N365
geary_c GearysC NPT7
"""
_PEAK = """
peak_loc LocalIntensityPeak VJGA intensity
peak_glob GlobalIntensityPeak 0F91 intensity
"""
_STATISTICS = """
mean Mean Q4LE X6K6 intensity
var Variance ECT3 CH89 intensity2
skew Skewness KE2A 88K1
kurt Kurtosis IPH6 C3I7
median Median Y12H WIFQ intensity
min Minimum 1GSF 1PR8 intensity
p10 10Percentile QG58 GPMT intensity
p90 90Percentile 8DWT OZ0C intensity
max Maximum 84IY 3NCY intensity
iqr InterquartileRange SALO WR0O intensity
range Range 2OJQ 5Z3W intensity
mad MeanAbsoluteDeviation 4FUA D2ZX intensity
rmad RobustMeanAbsoluteDeviation 1128 WRZB intensity
medad MedianAbsoluteDeviation N72L 4RNL intensity
cov CoefficientOfVariation 7TET CWYJ
qcod QuartileCoefficientOfDispersion 9S40 SLWD
energy Energy N8CA - intensity2
total_energy TotalEnergy - - intensity2·mm3
rms RootMeanSquared 5ZWQ - intensity
mode Mode - AMMC
entropy Entropy - TLU2
uniformity Uniformity - BJ5W
max_grad MaximumGradient - 12CE
max_grad_g MaximumGradientLevel - 8E6O
min_grad MinimumGradient - VQB3
min_grad_g MinimumGradientLevel - RHQZ
"""
_VOLUMES = """
v10 VolumeFraction10 BC2M
v90 VolumeFraction90 BC2M
i10 Intensity10 GBPN intensity
i90 Intensity90 GBPN intensity
diff_v10_v90 VolumeFractionDifference DDTU
diff_i10_i90 IntensityDifference CNV2 intensity
auc AreaUnderCurve 9CMM
"""
_GLCM = """
joint_max MaximumProbability GYBY
joint_avg JointAverage 60VM
joint_var SumSquares UR99
joint_entr JointEntropy TU9B
diff_avg DifferenceAverage TF7R
diff_var DifferenceVariance D3YU
diff_entr DifferenceEntropy NTRS
sum_avg SumAverage ZGXS
sum_var SumVariance OEEB
sum_entr SumEntropy P6QZ
energy JointEnergy 8ZQL
contrast Contrast ACUI
dissimilarity Dissimilarity 8S9J
inv_diff Id IB1Z
inv_diff_norm Idn NDRX
inv_diff_mom Idm WF0Z
inv_diff_mom_norm Idmn 1QCO
inv_var InverseVariance E8JP
corr Correlation NI2N
auto_corr Autocorrelation QWB0
clust_tend ClusterTendency DG8W
clust_shade ClusterShade 7NFM
clust_prom ClusterProminence AE86
info_corr1 Imc1 R8DG
info_corr2 Imc2 JN9H
mcc MCC -
"""
# Key; name in PyRadiomics for runs, zones, dependences, and by that manner for
# distances; the codes of the four.
_SIZES = """
small ShortRunEmphasis SmallAreaEmphasis SmallDistanceEmphasis SmallDependenceEmphasis 22OV 5QRC 0GBI SODN
large LongRunEmphasis LargeAreaEmphasis LargeDistanceEmphasis LargeDependenceEmphasis W4KF 48P8 MB4I IMOQ
low LowGrayLevelRunEmphasis LowGrayLevelZoneEmphasis LowGrayLevelZoneEmphasis LowGrayLevelEmphasis V3SW XMSY S1RA TL9H
high HighGrayLevelRunEmphasis HighGrayLevelZoneEmphasis HighGrayLevelZoneEmphasis HighGrayLevelEmphasis G3QZ 5GN9 K26C OAE7
small_low ShortRunLowGrayLevelEmphasis SmallAreaLowGrayLevelEmphasis SmallDistanceLowGrayLevelEmphasis SmallDependenceLowGrayLevelEmphasis HTZT 5RAI RUVG EQ3F
small_high ShortRunHighGrayLevelEmphasis SmallAreaHighGrayLevelEmphasis SmallDistanceHighGrayLevelEmphasis SmallDependenceHighGrayLevelEmphasis GD3A HW1V DKNJ JA6D
large_low LongRunLowGrayLevelEmphasis LargeAreaLowGrayLevelEmphasis LargeDistanceLowGrayLevelEmphasis LargeDependenceLowGrayLevelEmphasis IVPO YH51 A7WM NBZI
large_high LongRunHighGrayLevelEmphasis LargeAreaHighGrayLevelEmphasis LargeDistanceHighGrayLevelEmphasis LargeDependenceHighGrayLevelEmphasis 3KUM J17V KLTH 9QMG
level_nu GrayLevelNonUniformity GrayLevelNonUniformity GrayLevelNonUniformity GrayLevelNonUniformity R5YN JNSA VFT7 FP8K
level_nu_norm GrayLevelNonUniformityNormalized GrayLevelNonUniformityNormalized GrayLevelNonUniformityNormalized GrayLevelNonUniformityNormalized OVBL Y1RO 7HP3 5SPA
size_nu RunLengthNonUniformity SizeZoneNonUniformity ZoneDistanceNonUniformity DependenceNonUniformity W92Y 4JP3 V294 Z87G
size_nu_norm RunLengthNonUniformityNormalized SizeZoneNonUniformityNormalized ZoneDistanceNonUniformityNormalized DependenceNonUniformityNormalized IC23 VB3A IATH OKJI
percentage RunPercentage ZonePercentage ZonePercentage DependencePercentage 9ZK5 P30P VIWW 6XV8
level_var GrayLevelVariance GrayLevelVariance GrayLevelVariance GrayLevelVariance 8CE5 BYLV QK93 1PFV
size_var RunVariance ZoneVariance ZoneDistanceVariance DependenceVariance SXLW 3NSA 7WT1 DNX2
entropy RunEntropy ZoneEntropy ZoneDistanceEntropy DependenceEntropy HJ9O GU8N GBDU FCBV
energy - - - DependenceEnergy - - - CAS9
"""  # noqa: E501
_TONES = """
coarseness Coarseness QCDE
contrast Contrast 65HE
busyness Busyness NQ30
complexity Complexity HDEZ
strength Strength 1X9X
"""


@functools.cache
def known():
  """{key of `measure`, without its aggregation: Feature}."""
  found = {}
  plain = {
    'morph': ('shape', _SHAPE), 'loc': ('local', _PEAK),
    'ivh': ('ivh', _VOLUMES), 'cm': ('glcm', _GLCM), 'ngt': ('ngtdm', _TONES),
  }  # fmt: skip
  for key, (family, text) in plain.items():
    for feature, name, code, *unit in _rows(text):
      found[f'{key}_{feature}'] = Feature(family, name, code, *unit)
  for feature, name, code, histogram, *unit in _rows(_STATISTICS):
    found[f'stat_{feature}'] = Feature('firstorder', name, code, *unit)
    found[f'ih_{feature}'] = Feature('histogram', name, histogram)
  kinds = {'rlm': 'glrlm', 'szm': 'glszm', 'dzm': 'gldzm', 'ngl': 'gldm'}
  for feature, *both in _rows(_SIZES):
    for i, (key, family) in enumerate(kinds.items()):
      if both[i]:
        found[f'{key}_{feature}'] = Feature(family, both[i], both[i + 4])
  return found


def _rows(text):
  for line in text.strip().splitlines():
    yield ['' if word == '-' else word for word in line.split()]


# What PyRadiomics has: all else it computes is left out of its profile.
_ELSEWHERE = {
  'ih_entropy': Feature('firstorder', 'Entropy', 'TLU2'),
  'ih_uniformity': Feature('firstorder', 'Uniformity', 'BJ5W'),
}
_NOT_PYRADIOMICS = (
  'cm_dissimilarity', 'cm_sum_var', 'ngl_percentage', 'ngl_level_nu_norm',
  'ngl_energy', 'stat_medad', 'stat_cov', 'stat_qcod',
)  # fmt: skip
_PYRADIOMICS_SHAPE = (
  'volume', 'vol_approx', 'area_mesh', 'av', 'sphericity', 'diam',
  'diam_slice', 'diam_column', 'diam_row', 'pca_maj_axis', 'pca_min_axis',
  'pca_least_axis', 'pca_elongation', 'pca_flatness',
)  # fmt: skip
_ONLY_HISTOGRAM = (
  'mode', 'entropy', 'uniformity', 'max_grad', 'max_grad_g', 'min_grad',
  'min_grad_g',
)  # fmt: skip
_ONLY_PYRADIOMICS = (
  'morph_diam_slice', 'morph_diam_column', 'morph_diam_row',
  'stat_total_energy', 'cm_mcc', 'ih_energy', 'ih_rms', 'ih_total_energy',
  *(f'stat_{k}' for k in _ONLY_HISTOGRAM),
)  # fmt: skip
# 0 / 0 where all voxels have one intensity: their limits differ by direction.
_FLAT = (
  'stat_skew', 'stat_kurt', 'stat_cov', 'stat_qcod', 'ih_skew', 'ih_kurt',
  'cm_corr', 'cm_info_corr1', 'cm_mcc', 'ngt_coarseness', 'ngt_contrast',
  'ngt_busyness', 'ngt_strength', 'morph_moran_i', 'morph_geary_c',
  'ivh_auc', 'ivh_v10', 'ivh_v90', 'ivh_diff_v10_v90',
)  # fmt: skip


def split(key):
  """(key without its aggregation, the aggregation or '')."""
  for mark in ('_2D', '_2.5D', '_3D'):
    base, found, rest = key.partition(mark)
    if found and (not rest or rest[0] == '_'):
      return base, (found + rest)[1:]
  return key, ''


def columns(values, region, settings, image='original'):
  """{column: value} of {key: value}, in the order of families.

  What a region of one intensity leaves undefined is NaN.
  """
  flat = is_flat(region)
  found = {}
  for key in keys(settings):
    value = math.nan if flat and split(key)[0] in _FLAT else values[key]
    found[column(key, settings, image)] = float(value)
  return found


def is_flat(region):
  """Whether all voxels that count have one intensity."""
  values = region.values[region.mask]
  return bool(values.min() == values.max())


def undefined(settings):
  """Names of the features that a region of one intensity leaves undefined."""
  found = dict.fromkeys(split(k)[0] for k in keys(settings))
  found = [feature_of(k, settings) for k in found if k in _FLAT]
  return [f'{f.family}_{f.name}' for f in found]


@functools.cache
def keys(settings):
  """The keys of `measure` that settings ask for, in the order of columns."""
  if settings.standard:
    chosen = [k for k in known() if k not in _ONLY_PYRADIOMICS]
  else:
    chosen = [k for k in known() if k in _ELSEWHERE or _is_pyradiomics(k)]
  if not settings.shapes:
    chosen = [k for k in chosen if k.partition('_')[0] not in ('morph', 'loc')]
  found = []
  ranges = dict.fromkeys(a.partition('_')[0] for a in settings.aggregations)
  for key in chosen:
    family = key.partition('_')[0]
    if family in ('cm', 'rlm'):
      found += [f'{key}_{a}' for a in settings.aggregations]
    elif family in ('szm', 'dzm', 'ngl', 'ngt'):
      found += [f'{key}_{a}' for a in ranges]
    else:
      found.append(key)
  return tuple(found)


def _is_pyradiomics(key):
  if key in _NOT_PYRADIOMICS:
    return False
  family, _, name = key.partition('_')
  if family == 'morph':
    return name in _PYRADIOMICS_SHAPE
  return family in ('stat', 'cm', 'rlm', 'szm', 'ngl', 'ngt') and (
    family != 'stat' or name not in _ONLY_HISTOGRAM
  )


def column(key, settings, image='original'):
  """The column of a key of `keys`."""
  base, aggregation = split(key)
  feature = feature_of(base, settings)
  name = f'{image}_{feature.family}_{feature.name}'
  several = settings.standard and aggregation
  return f'{name}_{aggregation}' if several else name


def feature_of(base, settings):
  """The Feature of a key without its aggregation."""
  if not settings.standard and base in _ELSEWHERE:
    return _ELSEWHERE[base]
  return known()[base]


def described(settings):
  """{column of the original image: what it is}, for the JSON beside a table."""
  found = {}
  for key in keys(settings):
    base, aggregation = split(key)
    feature = feature_of(base, settings)
    about = {'ibsi': feature.code or None, 'unit': feature.unit or '1'}
    if aggregation:
      about['aggregation'] = aggregation
    found[column(key, settings)] = about
  return found
