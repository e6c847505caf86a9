"""More networks of `parity.py` in torch, of segmentation; see `references`."""

import numpy as np
import torch
from references import renamed
from torch import nn


def monai_unet2018():
  """MONAI's UNet of residual units, three stages in 2-D, batch norm."""
  from monai.networks.nets import UNet

  net = UNet(2, 1, 3, (4, 6, 8), (2, 2), num_res_units=2, norm='batch')
  net.adapt = _slopes
  levels = ('', '1.submodule.', '1.submodule.1.submodule.')
  units = (
    (r'conv\.unit(\d)\.conv', r'conv_\1'),
    (r'conv\.unit(\d)\.adn\.N', r'finish_\1.norm'),
    (r'conv\.unit(\d)\.adn\.A', r'finish_\1.act'),
  )
  return renamed(
    net,
    (r'^model\.', ''),
    (rf'^{levels[2]}(?=conv|residual)', 'encoder_2.'),
    (rf'^{levels[1]}0\.', 'encoder_1.'),
    (r'^0\.', 'encoder_0.'),
    (rf'^{levels[1]}2\.', 'decoder_1.'),
    (r'^2\.', 'head.'),
    (r'^(decoder_1|head)\.1\.', r'\1.unit.'),
    (r'^(decoder_1|head)\.0\.conv', r'\1.up'),
    (r'^(decoder_1|head)\.0\.adn\.N', r'\1.finish.norm'),
    (r'^(decoder_1|head)\.0\.adn\.A', r'\1.finish.act'),
    *units,
  )


def _slopes(flat):
  """A PReLU's weight is a slope of ours."""
  for collection, leaf, path in list(flat):
    if path.endswith('act'):
      flat[collection, 'slope', path] = flat.pop((collection, leaf, path))


def nnunet_resenc():
  """nnU-Net's ResidualEncoderUNet of three stages in 2-D."""
  from dynamic_network_architectures.architectures import unet

  net = unet.ResidualEncoderUNet(
    1, 3, (4, 6, 8), nn.Conv2d, 3, (1, 2, 2), (1, 2, 2), 3, 1, True,
    nn.InstanceNorm2d, {'eps': 1e-5, 'affine': True}, None, None, nn.LeakyReLU,
  )  # fmt: skip
  net.adapt = _drop_heads
  return renamed(
    net,
    (r'^encoder\.stem\.convs\.0\.(conv|norm)', r'stem.\1_0'),
    (r'^encoder\.stages\.(\d)\.blocks\.(\d)', r'encoder_\1_block_\2'),
    (r'(?<=block_\d)\.conv1\.(conv|norm)', r'.\1_0'),
    (r'(?<=block_\d)\.conv2\.(conv|norm)', r'.\1_1'),
    (r'\.skip\.1\.(conv|norm)', r'.shortcut_\1'),
    (r'^decoder\.transpconvs\.(\d)', lambda m: f'upsample_{1 - int(m[1])}'),
    (
      r'^decoder\.stages\.(\d)\.convs\.(\d)\.(conv|norm)',
      lambda m: f'decoder_{1 - int(m[1])}.{m[3]}_{m[2]}',
    ),
    (r'^decoder\.seg_layers\.1', 'head'),
  )


def _drop_heads(flat):
  """Its head for deep supervision, which does not train here."""
  for key in [k for k in flat if k[2].startswith('decoder.seg_layers.0')]:
    del flat[key]


def monai_mednext(rank):
  """MONAI's MedNeXt of two stages and a bottleneck."""
  from monai.networks.nets import MedNeXt

  net = MedNeXt(
    rank, 4, 1, 3, (2, 3), (3, 2), 2, 3, use_residual_connection=True,
    blocks_down=(1, 2), blocks_bottleneck=1, blocks_up=(2, 1),
  )  # fmt: skip
  net.adapt = _flip
  up = lambda rest: lambda m: f'{1 - int(m[1])}'.join(rest)
  return renamed(
    net,
    (r'^enc_stages\.(\d)\.(\d)', r'encoder_\1_block_\2'),
    (r'^bottleneck\.(\d)', r'encoder_2_block_\1'),
    (r'^down_blocks\.(\d)', r'down_\1'),
    (r'^up_blocks\.(\d)', up(('up_', ''))),
    (r'^dec_stages\.(\d)\.', up(('decoder_', '_block_'))),
    (r'conv1', 'depthwise'),
    (r'conv2', 'expand'),
    (r'conv3', 'project'),
    (r'res_conv', 'shortcut'),
    (r'^out_0\.conv_out', 'head'),
  )


def _flip(flat):
  """A transposed convolution is one of flipped taps between zeros."""
  for key, value in flat.items():
    if key[1] == 'kernel' and key[2].startswith('up_'):
      flat[key] = np.flip(value, tuple(range(value.ndim - 2)))


def monai_unetr(size, *, features, width, heads, hidden):
  """MONAI's UNETR, with the biases and the epsilon of our transformer."""
  from monai.networks.nets import UNETR

  net = UNETR(
    1, 3, size, features, width, hidden, heads, spatial_dims=len(size),
    norm_name=('instance', {'affine': True}), qkv_bias=True,
  )  # fmt: skip
  for block in net.vit.blocks:
    if hasattr(block, 'norm_cross_attn'):
      del block.norm_cross_attn  # not used
  for module in net.modules():
    if isinstance(module, nn.LayerNorm):
      module.eps = 1e-6
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
      module.bias = nn.Parameter(torch.zeros(module.out_channels))
  net.adapt = _positions
  layers = 'layer_0', 'layer_1', 'shortcut'
  return renamed(
    net,
    (r'^vit\.patch_embedding\.patch_embeddings', 'patches'),
    (r'^vit\.patch_embedding\.position_embeddings', 'positions'),
    (r'^vit\.blocks\.(\d+)\.', r'block_\1.'),
    (r'^vit\.norm', 'norm'),
    (r'^(block_\d+)\.norm(\d)', lambda m: f'{m[1]}.norm_{int(m[2]) - 1}'),
    (r'attn\.qkv', 'attention.qkv'),
    (r'attn\.out_proj', 'attention.out'),
    (r'mlp\.linear1', 'dense_0'),
    (r'mlp\.linear2', 'dense_1'),
    (r'^encoder1\.layer', 'image'),
    (
      r'^encoder(\d)\.transp_conv_init\.conv',
      lambda m: f'skip_{int(m[1]) - 1}_up_0',
    ),
    (
      r'^encoder(\d)\.blocks\.(\d)\.0\.conv',
      lambda m: f'skip_{int(m[1]) - 1}_up_{int(m[2]) + 1}',
    ),
    (
      r'^encoder(\d)\.blocks\.(\d)\.1',
      lambda m: f'skip_{int(m[1]) - 1}_block_{int(m[2]) + 1}',
    ),
    (r'^decoder(\d)\.transp_conv\.conv', lambda m: f'up_{int(m[1]) - 2}'),
    (r'^decoder(\d)\.conv_block', lambda m: f'decoder_{int(m[1]) - 2}'),
    (r'(?<!transp_)conv1\.conv', 'layer_0.conv'),
    (r'(?<!transp_)conv2\.conv', 'layer_1.conv'),
    (r'conv3\.conv', 'shortcut.conv'),
    (
      r'^(image|decoder_\d|skip_\d_block_\d)\.norm(\d)',
      lambda m: f'{m[1]}.{layers[int(m[2]) - 1]}.norm',
    ),
    (r'^out\.conv\.conv', 'head'),
  )


def _positions(flat):
  """Ours have no batch axis."""
  key = 'params', 'positions', ''
  flat[key] = flat[key][0]


def monai_swin_unetr(rank, *, features, heads, window):
  """MONAI's SwinUNETR, with biases in its transposed convolutions."""
  from monai.networks.nets import SwinUNETR

  net = SwinUNETR(
    1, 3, 2, (1, 2, 1, 1), heads, window, feature_size=features,
    spatial_dims=rank, norm_name=('instance', {'affine': True}),
  )  # fmt: skip
  for module in net.modules():
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
      module.bias = nn.Parameter(torch.zeros(module.out_channels))
  level = lambda m: f'skip_{5 if m[1] == "10" else int(m[1]) - 1}'
  layers = 'layer_0', 'layer_1', 'shortcut'
  return renamed(
    net,
    (r'^swinViT\.patch_embed\.proj', 'patches'),
    (
      r'^swinViT\.layers(\d)\.0\.blocks\.(\d)\.',
      lambda m: f'stage_{int(m[1]) - 1}_block_{m[2]}.',
    ),
    (
      r'^swinViT\.layers(\d)\.0\.downsample',
      lambda m: f'merge_{int(m[1]) - 1}',
    ),
    (r'(?<=merge_\d\.)reduction', 'reduce'),
    (r'^(stage.*)\.norm(\d)', lambda m: f'{m[1]}.norm_{int(m[2]) - 1}'),
    (r'attn\.qkv', 'attention.qkv'),
    (r'attn\.proj', 'attention.out'),
    (r'attn\.relative_position_bias_table', 'attention.positions'),
    (r'mlp\.linear1', 'dense_0'),
    (r'mlp\.linear2', 'dense_1'),
    (r'^encoder(\d+)\.layer', level),
    (r'^decoder(\d)\.transp_conv\.conv', lambda m: f'up_{int(m[1]) - 1}'),
    (r'^decoder(\d)\.conv_block', lambda m: f'decoder_{int(m[1]) - 1}'),
    (
      r'^(skip_\d|decoder_\d)\.(conv|norm)(\d)(\.conv)?',
      lambda m: f'{m[1]}.{layers[int(m[3]) - 1]}.{m[2]}',
    ),
    (r'^out\.conv\.conv', 'head'),
  )
