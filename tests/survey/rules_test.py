import jax
import numpy as np
import pytest

from medjax.models import UNet
from medjax.survey import rules

# What nnU-Net 2 planned for the Medical Segmentation Decathlon, as the
# AutoNNUnet project published it with its runs (github.com/automl/AutoNNUnet,
# output/baseline/*/3d_fullres/fold_0/debug.json; the same for Lung as in other
# published plans). nnU-Net's axis order, the coarsest first:
# spacing, median shape there, cases, classes → patch, batch, strides of every
# stage after the first, stages whose kernel is 1 along the first axis.
TWO, IN_PLANE = (2, 2, 2), (1, 2, 2)
PUBLISHED = {
  'BrainTumour': (
    (1.0, 1.0, 1.0), (138, 169, 138), 484, 4,
    (128, 128, 128), 2, [TWO] * 5, 0,
  ),
  'Heart': (
    (1.3700000047683716, 1.25, 1.25), (115, 320, 232), 20, 2,
    (80, 192, 160), 2, [TWO] * 4 + [IN_PLANE], 0,
  ),
  'Liver': (
    (1.0, 0.767578125, 0.767578125), (482, 512, 512), 131, 3,
    (128, 128, 128), 2, [TWO] * 5, 0,
  ),
  'Liver, low resolution': (
    (2.5000803453253524, 1.9190069838141859, 1.9190069838141859),
    (193, 205, 205), 131, 3,
    (128, 128, 128), 2, [TWO] * 5, 0,
  ),
  'Hippocampus': (
    (1.0, 1.0, 1.0), (36, 50, 35), 260, 3,
    (40, 56, 40), 9, [TWO] * 3, 0,
  ),
  'Prostate': (
    (3.5999999046325684, 0.625, 0.625), (20, 320, 319), 32, 3,
    (20, 320, 256), 2, [IN_PLANE] * 2 + [TWO] * 2 + [IN_PLANE] * 2, 2,
  ),
  'Lung': (
    (1.244979977607727, 0.78515625, 0.78515625), (252, 512, 512), 63, 2,
    (80, 192, 160), 2, [TWO] * 4 + [IN_PLANE], 0,
  ),
  'Pancreas': (
    (2.5, 0.8027340173721313, 0.8027340173721313), (96, 512, 512), 281, 3,
    (40, 224, 224), 2, [IN_PLANE] + [TWO] * 3 + [IN_PLANE], 1,
  ),
  'HepaticVessel': (
    (1.5, 0.7988280057907104, 0.7988280057907104), (150, 512, 512), 303, 3,
    (64, 192, 192), 2, [TWO] * 4 + [IN_PLANE], 0,
  ),
  'Spleen': (
    (1.6000100374221802, 0.7929689884185791, 0.7929689884185791),
    (187, 512, 512), 41, 2,
    (64, 192, 160), 2, [IN_PLANE] + [TWO] * 4, 1,
  ),
  'Colon': (
    (3.0, 0.78125, 0.78125), (150, 512, 512), 126, 2,
    (56, 192, 192), 2, [IN_PLANE] + [TWO] * 3 + [IN_PLANE], 1,
  ),
}  # fmt: skip
# The same runs' plans for slices: spacing, median shape, slices, classes →
# patch, batch, stages.
SLICES = {
  'Hippocampus': ((1.0, 1.0), (50, 35), 260 * 36, 3, (56, 40), 366, 4),
  'Prostate': ((0.625, 0.625), (320, 319), 32 * 20, 3, (320, 320), 32, 7),
  'BrainTumour': ((1.0, 1.0), (169, 138), 484 * 138, 4, (192, 160), 105, 6),
  'Heart': ((1.25, 1.25), (320, 232), 20 * 115, 2, (320, 256), 40, 7),
  'Lung': ((0.785, 0.785), (512, 512), 63 * 252, 2, (512, 512), 12, 8),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_the_published_plans_of_nnunet(name):
  spacing, shape, cases, classes, patch, batch, strides, flat = PUBLISHED[name]
  # Files have the reverse order: nibabel's i, j, k.
  plan = rules.make_plan(
    spacing[::-1], shape[::-1], cases=cases, num_classes=classes
  )
  assert plan.patch[::-1] == patch
  assert plan.batch == batch
  stages = [stage[::-1] for stage in plan.topology.strides]
  assert stages == [(1, 1, 1), *strides]
  kernels = [(1, 3, 3)] * flat + [(3, 3, 3)] * (len(stages) - flat)
  assert [k[::-1] for k in plan.topology.kernel_sizes] == kernels
  features = (32, 64, 128, 256, 320, 320, 320)[: len(stages)]
  assert plan.topology.features == features


@pytest.mark.parametrize('name', SLICES)
def test_the_published_plans_for_slices(name):
  spacing, shape, slices, classes, patch, batch, stages = SLICES[name]
  plan = rules.make_plan(spacing, shape, cases=slices, num_classes=classes)
  assert (plan.patch, plan.batch) == (patch, batch)
  assert len(plan.topology.strides) == stages
  features = (32, 64, 128, 256, 512, 512, 512, 512)
  assert plan.topology.features == features[:stages]


# A plan of nnUNetPlannerResEncM as published with a pancreas set of 252 scans
# (github.com/davidguo123456/pancreas-cancer-segmentation).
RESENC_M = {
  3: ((2.0, 0.73, 0.73), (59, 118, 181), 252, (64, 128, 192), 2, 6),
  2: ((0.73, 0.73), (118, 181), 252 * 59, (128, 192), 134, 6),
}


@pytest.mark.parametrize('rank', RESENC_M)
def test_a_published_plan_of_resenc_m(rank):
  spacing, shape, cases, patch, batch, stages = RESENC_M[rank]
  axes = slice(None, None, -1 if rank == 3 else 1)
  plan = rules.make_plan(
    spacing[axes],
    shape[axes],
    cases=cases,
    num_classes=3,
    preset=rules.PRESETS['resenc_m'],
  )
  assert (plan.patch[axes], plan.batch) == (patch, batch)
  assert len(plan.topology.strides) == stages
  assert rules.blocks(stages) == (1, 3, 4, 6, 6, 6)


def test_larger_presets_see_more_at_once():
  """Patches and batches of the network with the presets' own memory."""
  spacing, shape, cases, classes, *_ = PUBLISHED['Lung']
  seen = [
    rules.make_plan(
      spacing[::-1], shape[::-1], cases=cases, num_classes=classes, preset=p
    )
    for p in rules.PRESETS.values()
  ]
  voxels = [np.prod(p.patch) * p.batch for p in seen]
  assert voxels[1] < voxels[2] < voxels[3]
  assert voxels[0] / 1.5 < voxels[1] < voxels[0] * 1.5  # for the same memory


@pytest.mark.parametrize('name', ['Hippocampus', 'Prostate', 'Lung'])
def test_the_cost_of_a_residual_encoder_is_nnunets(name):
  torch = pytest.importorskip('torch')
  nets = pytest.importorskip('dynamic_network_architectures.architectures.unet')
  spacing, shape, cases, classes, *_ = PUBLISHED[name]
  preset = rules.PRESETS['resenc_m']
  plan = rules.make_plan(
    spacing, shape, cases=cases, num_classes=classes, preset=preset
  )
  network = plan.topology
  stages = len(network.strides)
  with torch.device('meta'):
    net = nets.ResidualEncoderUNet(
      1, stages, network.features, torch.nn.Conv3d, network.kernel_sizes,
      network.strides, rules.blocks(stages), classes, 1,
    )  # fmt: skip
  assert plan.cost == net.compute_conv_feature_map_size(plan.patch)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_the_coarse_axis_may_be_any(axis):
  spacing, shape, cases, classes, patch, *_ = PUBLISHED['Spleen']
  # nnU-Net puts it first, whichever it is in the file, the others reversed.
  order = [a for a in (2, 1, 0) if a != axis]
  where = np.argsort([axis, *order])
  plan = rules.make_plan(
    np.array(spacing)[where],
    np.array(shape)[where],
    cases=cases,
    num_classes=classes,
  )
  assert tuple(np.array(plan.patch)[[axis, *order]]) == patch


def test_the_cost_is_what_the_network_keeps():
  """The outputs of all convolutions, counted on the network itself."""
  spacing, shape, cases, classes, *_ = PUBLISHED['Prostate']
  plan = rules.make_plan(spacing, shape, cases=cases, num_classes=classes)
  unet = UNet(
    classes,
    features=plan.topology.features,
    strides=plan.topology.strides,
    kernel_sizes=plan.topology.kernel_sizes,
  )

  def keep(module, _):
    kind = (module.name or '').split('_')[0]
    return kind in ('conv', 'upsample', 'head')

  def run(x):
    variables = unet.init(jax.random.key(0), x)
    return unet.apply(variables, x, capture_intermediates=keep)[1]

  image = jax.ShapeDtypeStruct((1, *plan.patch, 1), np.float32)
  maps = jax.tree.leaves(jax.eval_shape(run, image))
  assert sum(np.prod(m.shape) for m in maps) == rules.activations(
    plan.patch, plan.topology, num_classes=classes
  )


def test_more_memory_gives_more_and_too_little_is_said():
  spacing, shape, cases, classes, *_ = PUBLISHED['Lung']
  voxels = [
    np.prod(
      rules.make_plan(
        spacing, shape, cases=cases, num_classes=classes, memory_gb=gb
      ).patch
    )
    for gb in (1, 4, 8, 24, 80)
  ]
  assert voxels == sorted(voxels)
  assert len({*voxels}) == 5
  with pytest.raises(ValueError, match='smallest patch'):
    rules.make_plan(
      spacing, shape, cases=cases, num_classes=classes, memory_gb=1e-6
    )


def test_spacing_is_the_median_but_for_a_coarse_axis():
  rng = np.random.default_rng(0)
  fine = np.full((20, 2), 0.8)
  thick = rng.permutation(np.linspace(1.5, 6.0, 20))
  spacings = np.column_stack([fine, thick])
  shapes = np.tile((512, 512, 60), (20, 1))
  target = rules.target_spacing(spacings, shapes)
  np.testing.assert_allclose(target, [0.8, 0.8, np.percentile(thick, 10)])
  # Many slices: not short, so the median.
  target = rules.target_spacing(spacings, np.tile((512, 512, 400), (20, 1)))
  np.testing.assert_allclose(target, [0.8, 0.8, np.median(thick)])
  # Never finer than the others (KiTS: .5 mm at .78 mm, nnUNet issue 230).
  spacings[:, 2] = np.where(np.arange(20) < 4, 0.5, 3.0)
  target = rules.target_spacing(spacings, shapes)
  np.testing.assert_allclose(target, 0.8, atol=1e-4)


def test_the_coarser_network_is_the_published_one():
  spacing, shape, cases, classes, *_ = PUBLISHED['Liver']
  options = dict(cases=cases, num_classes=classes)
  plan = rules.make_plan(spacing[::-1], shape[::-1], **options)
  coarse, median, low = rules.low_resolution(
    plan, spacing[::-1], shape[::-1], **options
  )
  known = PUBLISHED['Liver, low resolution']
  np.testing.assert_allclose(coarse[::-1], known[0], rtol=1e-6)
  assert tuple(median[::-1]) == known[1]
  assert (low.patch, low.batch) == (known[4][::-1], known[5])


def test_no_coarser_network_where_a_patch_sees_enough():
  for name in ('Hippocampus', 'BrainTumour', 'Prostate'):
    spacing, shape, cases, classes, *_ = PUBLISHED[name]
    options = dict(cases=cases, num_classes=classes)
    plan = rules.make_plan(spacing, shape, **options)
    assert rules.low_resolution(plan, spacing, shape, **options) is None


@pytest.mark.parametrize('name', SLICES)
def test_slices_are_the_published_plans_one_voxel_thick(name):
  spacing, shape, cases, classes, *_ = PUBLISHED[name]
  axis, plan = rules.slices(
    spacing[::-1], shape[::-1], cases=cases, num_classes=classes
  )
  *_, patch, batch, stages = SLICES[name]
  assert axis == 2  # the coarsest, the first of nnU-Net's
  assert plan.patch == (*patch[::-1], 1)
  assert plan.batch == batch
  network = plan.topology
  assert len(network.strides) == stages
  assert {s[2] for s in (*network.strides, *network.kernel_sizes)} == {1}
  assert max(network.features) <= 512
  assert (max(network.features) == 512) == (stages > 4)
