"""Workdirs of MONAI bundles and nnU-Net results against those networks."""

import json

import numpy as np
import pytest

from medjax.data import transforms
from medjax.export import foreign, nnunet_results
from medjax.prediction import trained

torch = pytest.importorskip('torch')
WINDOWS = {
  '_target_': 'SlidingWindowInferer',
  'roi_size': [16, 16],
  'overlap': 0.5,
}
UNET = dict(
  spatial_dims=2,
  in_channels=1,
  out_channels=3,
  channels=[4, 8],
  strides=[2],
  num_res_units=2,
)


def bundle(folder, target, arguments, net, **more):
  (folder / 'configs').mkdir(parents=True)
  (folder / 'models').mkdir()
  whole = {
    'image_size': [16, 16],
    'network_def': {'_target_': target, **arguments},
    'inferer': WINDOWS | {'roi_size': '@image_size', 'mode': 'gaussian'},
    **more,
  }
  (folder / 'configs/inference.json').write_text(json.dumps(whole))
  channels = {'0': 'background', '1': 'liver', '2': 'tumour'}
  meta = {
    'network_data_format': {'outputs': {'pred': {'channel_def': channels}}}
  }
  (folder / 'configs/metadata.json').write_text(json.dumps(meta))
  torch.save(net.state_dict(), folder / 'models/model.pt')


def composed(part, *words):
  """A part of a bundle with one step, of names and values in turn."""
  step = dict(zip(words[::2], words[1::2], strict=True))
  return {part: {'_target_': 'Compose', 'transforms': [step]}}


def random(net):
  torch.manual_seed(0)
  for parameter in net.parameters():
    torch.nn.init.normal_(parameter, std=0.2)
  return net.eval()


def theirs(net, image):
  with torch.inference_mode():
    x = torch.from_numpy(np.moveaxis(image, -1, 0)[None].copy())
    return np.moveaxis(net(x).softmax(1).numpy()[0], 0, -1)


NETS = {
  'UNet': UNET,
  'DynUNet': dict(
    spatial_dims=2,
    in_channels=1,
    out_channels=3,
    kernel_size=[3, 3, 3],
    strides=[1, 2, 2],
    upsample_kernel_size=[2, 2],
    filters=[4, 6, 8],
    norm_name=['INSTANCE', {'affine': True}],
  ),
  'SegResNet': dict(
    spatial_dims=2,
    in_channels=1,
    out_channels=3,
    init_filters=8,
    blocks_down=[1, 2],
    blocks_up=[1],
  ),
}


@pytest.mark.parametrize('name', NETS)
def test_a_bundle_predicts_as_its_network(name, tmp_path):
  nets = pytest.importorskip('monai.networks.nets')
  net = random(getattr(nets, name)(**NETS[name]))
  target = f'monai.networks.nets.{name}'
  steps = [
    {'_target_': 'LoadImaged', 'keys': 'image'},
    {
      '_target_': 'ScaleIntensityRanged', 'keys': 'image', 'a_min': -50,
      'a_max': 150, 'b_min': -1.0, 'b_max': 1.0, 'clip': True,
    },
  ]  # fmt: skip
  bundle(
    tmp_path / 'bundle', target, NETS[name], net,
    preprocessing={'_target_': 'Compose', 'transforms': steps},
  )  # fmt: skip
  foreign.adopt(tmp_path / 'bundle', tmp_path / 'run')
  run = trained.load(tmp_path / 'run')
  assert run.task.label_names == ('background', 'liver', 'tumour')
  image = np.random.default_rng(0).uniform(-99, 199, (16, 16, 1)).astype('f4')
  scaled = np.clip((image + 50) / 200, 0, 1) * 2 - 1
  wanted = theirs(net, scaled)
  assert wanted.std() > 0.01
  np.testing.assert_allclose(run.probabilities(image), wanted, atol=2e-5)


def test_steps_as_published_bundles_have_them(tmp_path):
  """One channel, values between its ends; a part of a part is referred to."""
  nets = pytest.importorskip('monai.networks.nets')
  transforms = pytest.importorskip('monai.transforms')
  net = random(nets.UNet(**UNET))
  steps = [
    {'_target_': 'NormalizeIntensityd', 'keys': 'image', 'nonzero': True},
    {'_target_': 'ScaleIntensityd', 'keys': 'image', 'minv': -1.0, 'maxv': 3.0},
  ]
  after = [
    {'_target_': 'Activationsd', 'keys': 'pred', 'softmax': True},
    {'_target_': 'KeepLargestConnectedComponentd', 'keys': 'pred'},
  ]
  bundle(
    tmp_path / 'bundle', 'UNet', UNET, net,
    preprocessing={'_target_': 'Compose', 'transforms': steps},
    postprocessing={'_target_': 'Compose', 'transforms': after},
    shown={'windows': [{'overlap': 0.75}]},
    inferer=WINDOWS | {'overlap': '@shown#windows::0#overlap'},
  )  # fmt: skip
  said = foreign.adopt(tmp_path / 'bundle', tmp_path / 'run')
  assert 'KeepLargestConnectedComponentd, is left out' in said
  run = trained.load(tmp_path / 'run')
  assert run.experiment.inference.overlap == 0.75
  image = np.random.default_rng(0).normal(50, 9, (16, 16, 1)).astype('f4')
  image[:4] = 0
  case = {'image': torch.from_numpy(np.moveaxis(image, -1, 0).copy())}
  case = transforms.NormalizeIntensityd('image', nonzero=True)(case)
  case = transforms.ScaleIntensityd('image', minv=-1.0, maxv=3.0)(case)
  wanted = theirs(net, np.moveaxis(np.asarray(case['image']), 0, -1))
  np.testing.assert_allclose(run.probabilities(image), wanted, atol=2e-5)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'network_def': {'_target_': 'my.Net'}}, 'Net is not known'),
    ({'network_def': {'_target_': 'UNet', **UNET, 'act': 'GELU'}}, 'act='),
    ({'network_def': {'_target_': 'UNet', **UNET, 'foo': 1}}, 'foo is not'),
    (
      {'network_def': {'_target_': 'UNet', **UNET, 'adn_ordering': 'ADN'}},
      "adn_ordering='adn' is not known, only 'nda'",
    ),
    (
      composed(
        'preprocessing', '_target_', 'NormalizeIntensityd', 'subtrahend', 9.0,
        'divisor', 2.0, 'nonzero', True,
      ),
      'with subtrahend and nonzero is not known',
    ),
    ({'network_def': '$import_module()'}, 'is an expression'),
    (
      {
        'network_def': {
          '_target_': 'DynUNet',
          **NETS['DynUNet'],
          'act_name': ['leakyrelu', {'negative_slope': 0.2}],
        }
      },
      'act_name with negative_slope=0.2 is not known',
    ),
    (
      {
        'preprocessing': {
          '_target_': 'Compose',
          'transforms': [{'_target_': 'CropForegroundd'}],
        }
      },
      'CropForegroundd is not known',
    ),
    ({'inferer': {'_target_': 'SliceInferer'}}, 'SliceInferer is not known'),
    (
      {'inferer': WINDOWS | {'overlap': '@shown#overlap'}},
      'refers to nothing in the bundle',
    ),
    (
      composed('postprocessing', '_target_', 'Activationsd', 'sigmoid', True),
      'sigmoid is not known: channels that overlap',
    ),
    (
      {'network_def': {'_target_': 'UNet', **UNET, 'in_channels': 2}}
      | composed('preprocessing', '_target_', 'ScaleIntensityd'),
      'over all channels at once',
    ),
    (
      composed('preprocessing', '_target_', 'Spacingd', 'pixdim', [1, -1]),
      r'Spacingd with pixdim=\[1, -1\]',
    ),
  ],
)  # fmt: skip
def test_what_is_unknown_is_refused_by_name(change, message, tmp_path):
  net = torch.nn.Linear(1, 1)
  bundle(tmp_path / 'b', 'UNet', UNET, net)
  path = tmp_path / 'b/configs/inference.json'
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  with pytest.raises(ValueError, match=message):
    foreign.adopt(tmp_path / 'b', tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_weights_of_another_network_are_refused(tmp_path):
  nets = pytest.importorskip('monai.networks.nets')
  net = nets.UNet(**UNET | {'channels': [4, 8, 8], 'strides': [2, 2]})
  bundle(tmp_path / 'b', 'UNet', UNET, net)
  with pytest.raises(ValueError, match=r'model\.pt'):
    foreign.adopt(tmp_path / 'b', tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_folder_of_neither_kind(tmp_path):
  with pytest.raises(FileNotFoundError, match='neither a MONAI bundle'):
    foreign.adopt(tmp_path, tmp_path / 'run')


# nnU-Net.

KERNELS, STRIDES = [[1, 3, 3], [3, 3, 3]], [[1, 1, 1], [1, 2, 2]]
NNUNET = 'nnUNetTrainer__nnUNetPlans__3d_fullres'


def results(folder, **changes):
  """A result folder as nnU-Net's trainer writes it, and its network."""
  unet = pytest.importorskip('dynamic_network_architectures.architectures.unet')
  arguments = dict(
    n_stages=2,
    features_per_stage=[4, 6],
    conv_op='torch.nn.modules.conv.Conv3d',
    kernel_sizes=KERNELS,
    strides=STRIDES,
    n_conv_per_stage=[2, 2],
    n_conv_per_stage_decoder=[2],
    conv_bias=True,
    norm_op='torch.nn.modules.instancenorm.InstanceNorm3d',
    nonlin='torch.nn.LeakyReLU',
  )
  net = unet.PlainConvUNet(
    1, 2, [4, 6], torch.nn.Conv3d, KERNELS, STRIDES, [2, 2], 3, [2], True,
    torch.nn.InstanceNorm3d, {'eps': 1e-5, 'affine': True}, None, None,
    torch.nn.LeakyReLU, {'inplace': True},
  )  # fmt: skip
  name = 'dynamic_network_architectures.architectures.unet.PlainConvUNet'
  plan = {
    'patch_size': [6, 16, 8],
    'spacing': [3.0, 1.0, 0.5],
    'normalization_schemes': ['CTNormalization'],
    'architecture': {
      'network_class_name': name,
      'arch_kwargs': arguments | changes,
    },
  }
  found = dict(mean=50, std=20, percentile_00_5=-10, percentile_99_5=150)
  plans = {
    'configurations': {'3d_fullres': plan},
    'transpose_forward': [0, 1, 2],
    'foreground_intensity_properties_per_channel': {'0': found},
  }
  told = {
    'channel_names': {'0': 'CT'},
    'labels': {'background': 0, 'a': 1, 'b': 2},
  }
  (folder / 'fold_0').mkdir(parents=True)
  (folder / 'plans.json').write_text(json.dumps(plans))
  (folder / 'dataset.json').write_text(json.dumps(told))
  net = random(net)
  state = {'network_weights': net.state_dict()}
  torch.save(state, folder / 'fold_0/checkpoint_final.pth')
  return net


def test_nnunet_predicts_as_its_network(tmp_path):
  net = results(tmp_path / NNUNET)
  told = foreign.adopt(tmp_path / NNUNET, tmp_path / 'run')
  assert 'resamples' in told
  run = trained.load(tmp_path / 'run', flips=False)
  made = run.experiment
  # x, y, z as a file has them; nnU-Net has z first.
  assert tuple(made.data.patch_size) == (8, 16, 6)
  assert made.facts.spacing == (0.5, 1.0, 3.0)
  image = np.random.default_rng(0).uniform(1, 200, (8, 16, 6, 1)).astype('f4')
  scaled = (np.clip(image, -10, 150) - 50) / 20
  turned = scaled.transpose(2, 1, 0, 3)
  wanted = theirs(net, turned).transpose(2, 1, 0, 3)
  assert wanted.std() > 0.01
  found = run.probabilities(image, (0.5, 1.0, 3.0))
  np.testing.assert_allclose(found, wanted, atol=2e-5)


def masked(folder, schemes, masks):
  """Lets the plan of `results` measure within a mask."""
  plans = json.loads((folder / 'plans.json').read_text())
  plan = plans['configurations']['3d_fullres']
  plan |= {'normalization_schemes': schemes, 'use_mask_for_norm': masks}
  (folder / 'plans.json').write_text(json.dumps(plans))


def test_nnunet_measures_skull_stripped_images_within_them(tmp_path):
  net = results(tmp_path / NNUNET)
  masked(tmp_path / NNUNET, ['ZScoreNormalization'], [True])
  told = foreign.adopt(tmp_path / NNUNET, tmp_path / 'run')
  assert 'where the channel itself is not 0' in told
  run = trained.load(tmp_path / 'run', flips=False)
  image = np.random.default_rng(0).uniform(1, 200, (8, 16, 6, 1)).astype('f4')
  image[1:4, 2:-1, 1] = image[3:6, 1:9, 2:] = 0  # its box is the whole image
  # As its ZScoreNormalization, of the mask within which an image is not 0.
  mask, scaled = image != 0, image.copy()
  scaled[mask] = (image[mask] - image[mask].mean()) / image[mask].std()
  wanted = theirs(net, scaled.transpose(2, 1, 0, 3)).transpose(2, 1, 0, 3)
  found = run.probabilities(image, (0.5, 1.0, 3.0))
  np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_nnunet_masks_are_of_channels(tmp_path):
  plan = {'use_mask_for_norm': [False, True, False]}
  schemes = ['ct', 'zscore', 'zscore']
  kept, steps = nnunet_results._normalised(plan, schemes, 'f')
  case = {'image': np.zeros((4, 4, 4, 3), np.float32), 'id': 'a'}
  case['image'][1:3] = np.random.default_rng(0).normal(9, 2, (2, 4, 4, 3))
  for step in steps:
    name, options = step['name'], {k: v for k, v in step.items() if k != 'name'}
    if name == 'normalise':
      statistics = ((50, 20, -10, 150),) * 3
      options = dict(schemes=tuple(kept), statistics=statistics)
    case = getattr(transforms, name)(case, **options)
  ct, within, plain = np.moveaxis(case['image'], -1, 0)
  assert (within[[0, 3]] == 0).all()
  assert abs(within[1:3].mean()) < 1e-5
  assert abs(plain.mean()) < 1e-5
  np.testing.assert_allclose(ct[0], -2.5)
  plan['use_mask_for_norm'] = [True, True, True]
  with pytest.raises(ValueError, match='use_mask_for_norm with ct is not know'):
    nnunet_results._normalised(plan, schemes, 'f')


def test_a_plan_that_is_not_known_is_refused(tmp_path):
  results(tmp_path / NNUNET, norm_op='torch.nn.BatchNorm3d')
  with pytest.raises(ValueError, match=r'norm_op=.*BatchNorm3d is not known'):
    foreign.adopt(tmp_path / NNUNET, tmp_path / 'run')
  with pytest.raises(FileNotFoundError, match='fold_3'):
    foreign.adopt(tmp_path / NNUNET, tmp_path / 'run', fold='3')
