"""What other libraries call the layers of our segmentation networks.

Tables as in `names`.
"""

import numpy as np


def conv_norm(path, conv, norm):
  """The lines of a table for a convolution of ours with its norm."""
  return {f'{path}/conv': conv, f'{path}/norm': norm}


def dynunet(model):
  """MONAI's DynUNet of plain blocks, which is nnU-Net's network."""
  last = len(model.features) - 1
  table = {'head': 'output_block.conv.conv'}
  stages = {f'encoder_{i}': f'downsamples.{i - 1}' for i in range(1, last)}
  stages |= {'encoder_0': 'input_block', f'encoder_{last}': 'bottleneck'}
  for i in range(last):
    up = f'upsamples.{last - 1 - i}'
    table[f'upsample_{i}'] = f'{up}.transp_conv.conv'
    stages[f'decoder_{i}'] = f'{up}.conv_block'
    table[f'head_{i + 1}'] = f'deep_supervision_heads.{i}.conv.conv'
  for path, name in stages.items():
    for j in range(2):
      table[f'{path}/conv_{j}'] = f'{name}.conv{j + 1}.conv'
      table[f'{path}/norm_{j}'] = f'{name}.norm{j + 1}'
  return table


def nnunet(model):
  """nnU-Net's PlainConvUNet and ResidualEncoderUNet."""
  last = len(model.features) - 1
  table = {'head': f'decoder.seg_layers.{last - 1}'}
  for i in range(last):
    s = last - 1 - i
    table[f'upsample_{i}'] = f'decoder.transpconvs.{s}'
    table[f'head_{i}'] = f'decoder.seg_layers.{s}'
  decode = lambda part: lambda i, j: f'decoder.stages.{last - 1 - i}.{part(j)}'
  encode = lambda part: lambda i, j: f'encoder.stages.{i}.0.{part(j)}'
  conv, norm = (lambda j, k=k: f'convs.{j}.{k}' for k in ('conv', 'norm'))
  table |= {
    r'decoder_(\d+)/conv_(\d+)': decode(conv),
    r'decoder_(\d+)/norm_(\d+)': decode(norm),
    r'encoder_(\d+)/conv_(\d+)': encode(conv),
    r'encoder_(\d+)/norm_(\d+)': encode(norm),
    'stem/conv_0': 'encoder.stem.convs.0.conv',
    'stem/norm_0': 'encoder.stem.convs.0.norm',
  }
  block = lambda i, j: f'encoder.stages.{i}.blocks.{j}'
  # An average pooling comes before the projection where a stage strides.
  strides = model.strides or (1,) + (2,) * last
  short = [int(np.max(stride) > 1) for stride in strides]
  for kind in ('conv', 'norm'):
    table[rf'encoder_(\d+)_block_(\d+)/{kind}_(\d)'] = (
      lambda i, j, k, kind=kind: f'{block(i, j)}.conv{k + 1}.{kind}'
    )
    table[rf'encoder_(\d+)_block_(\d+)/shortcut_{kind}'] = (
      lambda i, j, kind=kind: (
        f'{block(i, j)}.skip.{0 if j else short[i]}.{kind}'
      )
    )
  return table


def segresnet(model):
  """MONAI's SegResNet."""
  last = len(model.features) - 1
  down = lambda part: lambda i, j, k: f'down_layers.{i}.{j + 1}.' + part(k)
  up = lambda part: lambda i, j, k: f'up_layers.{last - 1 - i}.{j}.' + part(k)
  conv, norm = lambda k: f'conv{k + 1}.conv', lambda k: f'norm{k + 1}'
  return {
    'stem': 'convInit.conv',
    r'stage_(\d+)_down': lambda i: f'down_layers.{i}.0.conv',
    r'decoder_(\d+)_up': lambda i: f'up_samples.{last - 1 - i}.0.conv',
    r'stage_(\d+)_block_(\d+)/conv_(\d)': down(conv),
    r'stage_(\d+)_block_(\d+)/norm_(\d)': down(norm),
    r'decoder_(\d+)_block_(\d+)/conv_(\d)': up(conv),
    r'decoder_(\d+)_block_(\d+)/norm_(\d)': up(norm),
    'norm': 'conv_final.0',
    'head': 'conv_final.2.conv',
  }


def vnet(model):
  """MONAI's V-Net."""
  del model
  unit = lambda name: (f'{name}.conv_block.conv', f'{name}.conv_block.adn.N')
  table = conv_norm('stem', *unit('in_tr')) | conv_norm(
    'head/layer', *unit('out_tr')
  )
  table['head/logits'] = 'out_tr.conv2'
  for i in range(5):
    down, up = f'down_tr{16 * 2**i}', f'up_tr{32 * 2**i}'
    table |= conv_norm(f'down_{i}', f'{down}.down_conv', f'{down}.bn1')
    table |= {f'up_{i}': f'{up}.up_conv', f'up_norm_{i}': f'{up}.bn1'}
    for j in range(3):
      for path, name in ((f'encoder_{i}', down), (f'decoder_{i}', up)):
        table |= conv_norm(f'{path}/layer_{j}', *unit(f'{name}.ops.{j}'))
  return table


def unet2018(model):
  """MONAI's UNet; every level lies inside the one above."""
  last, table = len(model.features) - 1, {}
  units = model.convs_per_stage

  def layer(path, name, j):
    return {
      f'{path}/conv_{j}': f'{name}.conv',
      f'{path}/finish_{j}/norm': f'{name}.adn.N',
      f'{path}/finish_{j}/act': f'{name}.adn.A',
    }

  for i in range(last + 1):
    level = '1.submodule.' * i
    name = level.removesuffix('.') if i == last else f'{level}0'
    table[f'encoder_{i}/residual'] = f'{name}.residual'
    for j in range(units):
      table |= layer(f'encoder_{i}', f'{name}.conv.unit{j}', j)
    if not units:
      table |= layer(f'encoder_{i}', name, 0)
    ours = f'decoder_{i}' if i else 'head'
    up = f'{level}2.0' if units else f'{level}2'
    table[f'{ours}/up'] = f'{up}.conv'
    table[f'{ours}/finish/norm'] = f'{up}.adn.N'
    table[f'{ours}/finish/act'] = f'{up}.adn.A'
    table |= layer(f'{ours}/unit', f'{level}2.1.conv.unit0', 0)
  return table


_MEDNEXT = {
  'depthwise': 'conv1', 'norm': 'norm', 'expand': 'conv2', 'project': 'conv3',
  'shortcut': 'res_conv',
}  # fmt: skip


def mednext(model, *, monai):
  """MONAI's MedNeXt, or that of its authors."""
  last = len(model.blocks) - 1
  table = {'stem': 'stem', 'head': 'out_0.conv_out'}
  blocks = {rf'encoder_{last}_block_(\d+)': lambda j: f'bottleneck.{j}'}
  for i in range(last):
    table[f'head_{i + 1}'] = (
      f'out_blocks.{last - 1 - i}.conv_out'
      if monai
      else f'out_{i + 1}.conv_out'
    )
    down, up, encode, decode = (
      (f'down_blocks.{i}', f'up_blocks.{last - 1 - i}', f'enc_stages.{i}',
       f'dec_stages.{last - 1 - i}')
      if monai
      else (f'down_{i}', f'up_{i}', f'enc_block_{i}', f'dec_block_{i}')
    )  # fmt: skip
    blocks |= {f'down_{i}': down, f'up_{i}': up}
    for ours, name in (('encoder', encode), ('decoder', decode)):
      inner = lambda j, name=name: f'{name}.{j}'
      blocks[rf'{ours}_{i}_block_(\d+)'] = inner
  for path, name in blocks.items():
    for ours, theirs in _MEDNEXT.items():
      table[f'{path}/{ours}'] = _below(name, theirs)
  return table


def _below(name, part):
  """`name` or what it makes of numbers, and a part of it."""
  if callable(name):
    return lambda *numbers: f'{name(*numbers)}.{part}'
  return f'{name}.{part}'


def _residual(path, name):
  """The lines of MONAI's UnetResBlock, which is our ResNet's block."""
  table = {}
  for i, layer in enumerate(('layer_0', 'layer_1', 'shortcut'), start=1):
    table[f'{path}/{layer}/conv'] = _below(name, f'conv{i}.conv')
    table[f'{path}/{layer}/norm'] = _below(name, f'norm{i}')
  return table


def _transformer(path, name, out):
  """The lines of a block of attention and two dense layers."""
  parts = {
    'norm_0': 'norm1', 'norm_1': 'norm2', 'attention/qkv': 'attn.qkv',
    'attention/out': f'attn.{out}', 'dense_0': 'mlp.linear1',
    'dense_1': 'mlp.linear2',
  }  # fmt: skip
  return {f'{path}/{k}': _below(name, v) for k, v in parts.items()}


def unetr(model):
  """MONAI's UNETR."""
  del model
  skip = lambda part: lambda i, j: f'encoder{i + 1}.{part(j)}'
  decode = lambda i: f'decoder{i + 2}'
  return {
    'patches': 'vit.patch_embedding.patch_embeddings',
    'positions': 'vit.patch_embedding.position_embeddings',
    **_transformer(r'block_(\d+)', lambda i: f'vit.blocks.{i}', 'out_proj'),
    'norm': 'vit.norm',
    **_residual('image', 'encoder1.layer'),
    r'skip_(\d)_up_(0)': skip(lambda j: 'transp_conv_init.conv'),
    r'skip_(\d)_up_(\d)': skip(lambda j: f'blocks.{j - 1}.0.conv'),
    **_residual(r'skip_(\d)_block_(\d)', skip(lambda j: f'blocks.{j - 1}.1')),
    r'up_(\d)': _below(decode, 'transp_conv.conv'),
    **_residual(r'decoder_(\d)', _below(decode, 'conv_block')),
    'head': 'out.conv.conv',
  }


def swin_unetr(model):
  """MONAI's SwinUNETR, without the convolutions of its use_v2."""
  del model
  stage = lambda i, j: f'swinViT.layers{i + 1}.0.blocks.{j}'
  merge = lambda i: f'swinViT.layers{i + 1}.0.downsample'
  decode = lambda i: f'decoder{i + 1}'
  skip = lambda i: f'encoder{10 if i == 5 else i + 1}.layer'
  block = r'stage_(\d)_block_(\d+)'
  table = _transformer(block, stage, 'proj')
  positions = 'attn.relative_position_bias_table'
  return {
    'patches': 'swinViT.patch_embed.proj',
    f'{block}/attention/positions': _below(stage, positions),
    **table,
    r'merge_(\d)/reduce': _below(merge, 'reduction'),
    r'merge_(\d)/norm': _below(merge, 'norm'),
    **_residual(r'skip_(\d)', skip),
    r'up_(\d)': _below(decode, 'transp_conv.conv'),
    **_residual(r'decoder_(\d)', _below(decode, 'conv_block')),
    'head': 'out.conv.conv',
  }
