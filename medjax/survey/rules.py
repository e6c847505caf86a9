"""Rules that turn a fingerprint of the data into patch, network and batch.

The rules are nnU-Net's (Isensee et al., Nature Methods 18 (2021) 203-211,
supplementary note 5, and its version 2), written anew. They plan in the axis
order of the caller: medjax keeps that of the file (nibabel's i, j, k), nnU-Net
has the reverse (k, j, i) and puts the coarsest axis first.
"""

import dataclasses
import functools
import math

import numpy as np

# An axis is coarse when it is this many times coarser than the others.
ANISOTROPY = 3.0
MIN_EDGE = 4  # voxels of the smallest feature map along an axis
MIN_BATCH = 2
BASE_FEATURES = 32
STEPS = 250_000  # nnU-Net's 1000 epochs
CONVS = 2  # per stage
RESIDUAL_BLOCKS = (1, 3, 4, 6)  # of a residual encoder's stages; then 6
MAX_FEATURES = {2: 512, 3: 320}  # of a stage, by rank
REFERENCE_BATCH = {2: 12, 3: 2}
# A patch that covers less of the median image than this asks for a coarser
# network beside; its voxels grow step by step until one covers so much.
COVERED, COARSER = 0.25, 1.03
# Before it is shrunk to fit, a patch has this many voxels.
LARGEST = {2: 2048**2, 3: 256**3}


@dataclasses.dataclass(frozen=True)
class Preset:
  """A network and the memory that its patch and batch are planned for.

  `reference` {rank: elements of feature maps}: what an example may cost, so
  that REFERENCE_BATCH of them fill `memory_gb`; with mixed precision in
  PyTorch: medjax's memory was not measured. `data_share`: of all voxels, at
  most, in one batch.
  """

  model: str
  reference: dict[int, int]
  memory_gb: float
  data_share: float


# nnU-Net 2's own numbers (ExperimentPlanner, nnUNetPlannerResEncM, L and XL).
PRESETS = {
  'unet': Preset('UNet', {2: 85_000_000, 3: 560_000_000}, 8.0, 0.05),
  'resenc_m': Preset('ResEncUNet', {2: 135_000_000, 3: 680_000_000}, 8.0, 1.0),
  'resenc_l': Preset(
    'ResEncUNet', {2: 380_000_000, 3: 2_100_000_000}, 24.0, 1.0
  ),
  'resenc_xl': Preset(
    'ResEncUNet', {2: 560_000_000, 3: 3_600_000_000}, 40.0, 1.0
  ),
}


class TooLargeError(ValueError):
  """Nothing fits the memory."""


@dataclasses.dataclass(frozen=True)
class Topology:
  """Strides and kernel sizes of each stage, finest first, one per axis.

  rank: of the network, where it is not the number of axes: 2 of slices.
  """

  strides: tuple[tuple[int, ...], ...]
  kernel_sizes: tuple[tuple[int, ...], ...]
  rank: int = 0

  @property
  def divisor(self):
    """What the sides of a patch must be multiples of (n,)."""
    return np.prod(self.strides, axis=0)

  @property
  def features(self):
    """Channels of each stage: doubling up to the limit."""
    most = MAX_FEATURES[self.rank or len(self.strides[0])]
    return tuple(
      min(BASE_FEATURES * 2**i, most) for i in range(len(self.strides))
    )


@dataclasses.dataclass(frozen=True)
class Plan:
  """Patch (n,), topology and batch; `cost` in elements, `limit` that of it.

  `memory_batch` would fit the memory, `data_batch` be the preset's share of
  the voxels.
  """

  patch: tuple[int, ...]
  topology: Topology
  batch: int
  memory_batch: int
  data_batch: int
  first_patch: tuple[int, ...]
  cost: int
  limit: float


def coarse_axis(spacing):
  """The axis of the largest spacing; the last of several."""
  spacing = np.asarray(spacing)
  return int(len(spacing) - 1 - np.argmax(spacing[::-1]))


def target_spacing(spacings, shapes):
  """Voxel size in mm (n,) to resample to, from those of all cases (m, n).

  The median; but along an axis more than three times as coarse as the others,
  in spacing and (the other way round) in number of voxels, the 10th percentile:
  the median would throw away slices that the better half of the cases has.
  Never finer than the other axes.
  """
  target = np.percentile(spacings, 50, axis=0)
  size = np.percentile(shapes, 50, axis=0)
  axis = coarse_axis(target)
  others = [a for a in range(len(target)) if a != axis]
  if is_anisotropic(target, size):
    low = np.percentile(np.asarray(spacings)[:, axis], 10)
    finest = target[others].max()
    target[axis] = low if low >= finest else finest + 1e-5
  return target


def is_anisotropic(spacing, shape):
  """Whether one axis is coarse in spacing and short in voxels."""
  if len(spacing) < 3:
    return False
  axis = coarse_axis(spacing)
  others = [a for a in range(len(spacing)) if a != axis]
  return bool(
    spacing[axis] > ANISOTROPY * max(spacing[a] for a in others)
    and shape[axis] * ANISOTROPY < min(shape[a] for a in others)
  )


def is_flat(patch, spacing):
  """Whether a patch is so thin that it is augmented in its plane only."""
  return (
    len(patch) == 3 and max(patch) > ANISOTROPY * patch[coarse_axis(spacing)]
  )


def topology(spacing, patch):
  """`Topology` for voxels of `spacing` (n,) and a patch (n,).

  A stage halves every axis that still has 2 · MIN_EDGE voxels and is less than
  twice as coarse as the finest of those; one axis alone is halved only if
  3 · MIN_EDGE voxels are left to it. Kernels are 1 along an axis until it is
  less than twice as coarse as the finest axis, 3 from there on, and 3 in the
  last stage.
  """
  spacing, size = np.array(spacing, float), np.array(patch, float)
  rank = len(size)
  strides, kernels = [(1,) * rank], []
  kernel = np.ones(rank, int)
  while True:
    open_axes = size >= 2 * MIN_EDGE
    if not open_axes.any():
      break
    halved = open_axes & (spacing < 2 * spacing[open_axes].min())
    if halved.sum() == 1 and size[halved][0] < 3 * MIN_EDGE:
      break
    kernel = np.where(spacing < 2 * spacing.min(), 3, kernel)
    kernels.append(tuple(map(int, kernel)))
    strides.append(tuple(map(int, np.where(halved, 2, 1))))
    spacing = np.where(halved, 2 * spacing, spacing)
    size = np.where(halved, np.ceil(size / 2), size)
  return Topology(tuple(strides), (*kernels, (3,) * rank))


def blocks(stages):
  """Residual blocks of each of so many stages."""
  return (*RESIDUAL_BLOCKS, *RESIDUAL_BLOCKS[-1:] * stages)[:stages]


def activations(patch, topology, *, num_classes, residual=False):
  """Elements of all feature maps that a U-Net makes of one example.

  The outputs of its convolutions, those that go up, and the head: what training
  keeps for the backward pass. The same count as nnU-Net's
  compute_conv_feature_map_size, whose reference values are in `PRESETS`: of a
  residual encoder a shortcut that only averages counts too.
  """
  size, features = np.array(patch), topology.features
  repeats = blocks(len(features))
  voxels = math.prod(map(int, size))
  total = num_classes * voxels + residual * features[0] * voxels  # head, stem
  for i, stride in enumerate(topology.strides):
    size = size // stride
    down, up = CONVS, CONVS + 1  # and one that goes up
    if residual:
      down, up = 2 * repeats[i] + (i > 0), 2
    maps = down + up * (i < len(features) - 1)
    total += maps * features[i] * math.prod(map(int, size))
  return total


def make_plan(
  spacing,
  median_shape,
  *,
  cases,
  num_classes,
  memory_gb=None,
  preset=PRESETS['unet'],
):
  """The `Plan` for images of `median_shape` at `spacing` (both (n,)).

  The patch begins with the voxels' aspect and the volume of `LARGEST`, no
  larger than the median image; while the network on it costs too much at
  MIN_BATCH, the axis that sees most of the median image is cut. What memory is
  then left makes the batch larger, up to the preset's share of all voxels.
  `memory_gb` None: the preset's.
  """
  order = _order(spacing)
  back = np.argsort(order)
  spacing = np.asarray(spacing, float)[order]
  shape = np.asarray(median_shape, float)[order]
  rank = len(spacing)
  reference_batch = REFERENCE_BATCH[rank]
  limit = preset.reference[rank] * (memory_gb or preset.memory_gb)
  limit /= preset.memory_gb
  count = functools.partial(
    activations,
    num_classes=num_classes,
    residual=preset.model == 'ResEncUNet',
  )
  patch, network = _fit(spacing, np.minimum(_first_patch(spacing), shape))
  first = patch
  cost = count(patch, network)
  while cost * MIN_BATCH / reference_batch > limit:
    patch, network = _smaller(spacing, patch, shape, network)
    cost = count(patch, network)
  memory_batch = round(limit / cost * reference_batch)
  voxels = math.prod(shape) * cases
  data_batch = round(preset.data_share * voxels / math.prod(patch))
  return Plan(
    patch=tuple(int(patch[a]) for a in back),
    topology=Topology(
      *(
        tuple(tuple(stage[a] for a in back) for stage in stages)
        for stages in (network.strides, network.kernel_sizes)
      )
    ),
    batch=max(min(memory_batch, data_batch), MIN_BATCH),
    memory_batch=memory_batch,
    data_batch=data_batch,
    first_patch=tuple(int(first[a]) for a in back),
    cost=cost,
    limit=limit,
  )


def low_resolution(plan, spacing, median_shape, **options):
  """(spacing, median shape, `Plan`) of the coarser network, or None.

  nnU-Net plans one where a patch covers less than `COVERED` of the median
  image, coarse enough for a patch to cover so much: first along the axes that
  are more than twice as fine as the coarsest, then along all. It is left out
  where it would have more than half of the voxels. `options` are those of
  `make_plan`.
  """
  shape, coarse = np.asarray(median_shape, float), np.array(spacing, float)
  voxels, found = shape.prod(), None
  while math.prod((found or plan).patch) / voxels < COVERED:
    finer = coarse.max() / coarse > 2
    coarse = coarse * np.where(finer | ~finer.any(), COARSER, 1)
    exact = np.asarray(spacing) / coarse * shape
    voxels = exact.prod()
    found = make_plan(coarse, np.rint(exact), **options)
  if found is None or shape.prod() / voxels < 2:
    return None
  return coarse, np.rint(exact), found


def slices(spacing, median_shape, *, cases, **options):
  """(axis, `Plan`) of nnU-Net's 2-D network, for the slices across an axis.

  It is told in three dimensions: patches, strides and kernels are 1 along the
  axis, the coarsest, so that a network of volumes sees each slice alone.
  """
  axis, *plane = _order(spacing)
  spacing, shape = np.asarray(spacing, float), np.asarray(median_shape, float)
  flat = make_plan(
    spacing[plane], shape[plane], cases=cases * shape[axis], **options
  )
  thick = lambda values: tuple(
    dict(zip(plane, values, strict=True)).get(a, 1) for a in range(3)
  )
  network = flat.topology
  return axis, dataclasses.replace(
    flat,
    patch=thick(flat.patch),
    first_patch=thick(flat.first_patch),
    topology=Topology(
      tuple(map(thick, network.strides)),
      tuple(map(thick, network.kernel_sizes)),
      rank=2,
    ),
  )


def _order(spacing):
  """Axes in nnU-Net's order, which settles ties between them.

  Of a volume the coarsest comes first and the others follow from last to
  first; pictures have rows and columns in both.
  """
  if len(spacing) < 3:
    return list(range(len(spacing)))
  axis = coarse_axis(spacing)
  return [axis, *(a for a in reversed(range(len(spacing))) if a != axis)]


def _first_patch(spacing):
  rank = len(spacing)
  aspect = 1 / spacing
  side = (LARGEST[rank] / math.prod(aspect)) ** (1 / rank)
  return np.array([round(a * side) for a in aspect])


def _fit(spacing, patch):
  """The patch made divisible, by padding, for its network; and that."""
  network = topology(spacing, patch)
  patch = np.ceil(patch / network.divisor) * network.divisor
  return patch.astype(int), network


def _smaller(spacing, patch, shape, network):
  """The patch with a step less along the axis that covers most of `shape`."""
  covered = patch / shape
  axis = int(np.flatnonzero(covered == covered.max())[-1])
  # A step of the network that the smaller patch will have: that may be smaller.
  trial = patch.copy()
  trial[axis] -= network.divisor[axis]
  step = topology(spacing, trial).divisor[axis]
  if patch[axis] - step < 1:
    raise TooLargeError(
      'not even the smallest patch fits the memory; give more (--memory)'
    )
  patch = patch.copy()
  patch[axis] -= step
  return _fit(spacing, patch)
