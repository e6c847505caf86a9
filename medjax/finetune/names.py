"""What other libraries call the layers of our models.

A table maps the path of a module or parameter of ours, a regular expression
whose groups are numbers, to the name of theirs.
"""

import functools
import math
import re


def _resnet(model):
  """torchvision; timm has the same."""
  del model
  block = r'stage_(\d+)_block_(\d+)'
  part = lambda kind: lambda i, j, k: f'layer{i + 1}.{j}.{kind}{k + 1}'
  short = lambda index: lambda i, j: f'layer{i + 1}.{j}.downsample.{index}'
  return {
    'stem/conv': 'conv1',
    'stem/norm': 'bn1',
    rf'{block}/layer_(\d+)/conv': part('conv'),
    rf'{block}/layer_(\d+)/norm': part('bn'),
    rf'{block}/shortcut/conv': short(0),
    rf'{block}/shortcut/norm': short(1),
    'head': 'fc',
  }


def _densenet(model, layer='', between='', head='classifier'):
  """torchvision; of before 2017, whose files it still serves; MONAI."""
  norms = [f'transition{i + 1}.norm' for i in range(len(model.stage_sizes))]
  norms[-1] = 'norm5'
  each = r'stage_(\d+)_layer_(\d+)'
  into = lambda i, j: f'features.denseblock{i + 1}.denselayer{j + 1}.{layer}'
  part = lambda kind, n: lambda i, j: f'{into(i, j)}{kind}{between}{n}'
  return {
    'stem/conv': 'features.conv0',
    'stem/norm': 'features.norm0',
    f'{each}/norm': part('norm', 1),
    f'{each}/squeeze/conv': part('conv', 1),
    f'{each}/squeeze/norm': part('norm', 2),
    f'{each}/grow/conv': part('conv', 2),
    r'transition_(\d+)/conv': lambda i: f'features.transition{i + 1}.conv',
    r'stage_(\d+)_norm': lambda i: f'features.{norms[i]}',
    'head': head,
  }


def _vgg(model):
  table, index = {}, 0
  for i, layers in enumerate(model.stage_sizes):
    for j in range(layers):
      table[f'stage_{i}/layer_{j}/conv'] = f'features.{index}'
      table[f'stage_{i}/layer_{j}/norm'] = f'features.{index + 1}'
      index += 3 if model.norm else 2
    index += 1  # the pooling
  dense = {'dense_0': 0, 'dense_1': 3, 'head': 6}
  return table | {k: f'classifier.{n}' for k, n in dense.items()}


def _alexnet(model):
  del model
  convs = {f'conv_{i}': f'features.{n}' for i, n in enumerate((0, 3, 6, 8, 10))}
  dense = {'dense_0': 1, 'dense_1': 4, 'head': 6}
  return convs | {k: f'classifier.{n}' for k, n in dense.items()}


_INCEPTION_BLOCKS = ('5b', '5c', '5d', '6a', '6b', '6c', '6d', '6e', '7a', '7b',
                     '7c')  # fmt: skip
_INCEPTION_BRANCHES = {
  'A': ('1x1', '5x5_1 5x5_2', '3x3dbl_1 3x3dbl_2 3x3dbl_3', '_ pool'),
  'B': ('3x3', '3x3dbl_1 3x3dbl_2 3x3dbl_3'),
  'C': ('1x1', '7x7_1 7x7_2 7x7_3',
        '7x7dbl_1 7x7dbl_2 7x7dbl_3 7x7dbl_4 7x7dbl_5', '_ pool'),
  'D': ('3x3_1 3x3_2', '7x7x3_1 7x7x3_2 7x7x3_3 7x7x3_4'),
  'E': ('1x1', '3x3_1 3x3_2a|3x3_2b', '3x3dbl_1 3x3dbl_2 3x3dbl_3a|3x3dbl_3b',
        '_ pool'),
}  # fmt: skip


def _inception(model):
  """torchvision; timm has the same."""
  del model
  table = {'aux/reduce': 'AuxLogits.conv0', 'aux/conv': 'AuxLogits.conv1'}
  stem = ('1a_3x3', '2a_3x3', '2b_3x3', '3b_1x1', '4a_3x3')
  table |= {f'stem_{i}': f'Conv2d_{name}' for i, name in enumerate(stem)}
  for i, kind in enumerate('AAABCCCCDEE'):
    for j, branch in enumerate(_INCEPTION_BRANCHES[kind]):
      for k, layer in enumerate(branch.split()):
        beside = layer.split('|')
        for m, name in enumerate(beside):
          last = f'{k}_{m}' if len(beside) > 1 else k
          name = f'branch_{name}' if name == 'pool' else f'branch{name}'
          table[f'block_{i}/branch_{j}_layer_{last}'] = (
            f'Mixed_{_INCEPTION_BLOCKS[i]}.{name}'
          )
  whole = {f'{k}/conv': f'{v}.conv' for k, v in table.items()}
  whole |= {f'{k}/norm': f'{v}.bn' for k, v in table.items()}
  return whole | {'aux/head': 'AuxLogits.fc', 'head': 'fc'}


def _blocks(model):
  """(block, stage, block of the stage, its parts in their order), …

  Of a MobileNet or EfficientNet; blocks of equal channels are one stage.
  """
  index, stage, j, before = 0, -1, 0, None
  for row in model.stages:
    if efficient := type(model).__name__ == 'EfficientNet':
      blocks, _, expansion, channels, _ = row
      blocks = math.ceil(blocks * model.depth)
    else:
      blocks, _, expansion, channels, excite, *_ = row
    if channels != before:
      stage, j, before = stage + 1, 0, channels
    parts = ['expand'] * (expansion != 1) + ['depthwise']
    parts += ['squeeze_excite'] * bool(efficient or excite) + ['project']
    for _ in range(blocks):
      yield index, stage, j, parts
      index, j = index + 1, j + 1


def _mobilenet_v2(model):
  table = {'head': 'classifier.1'}
  for i, _, _, parts in _blocks(model):
    for k, part in enumerate(parts):
      name = f'features.{i + 1}.conv.{k}'
      pair = (f'{name}.0', f'{name}.1')
      if part == 'project':
        pair = (name, f'features.{i + 1}.conv.{k + 1}')
      table |= _pair(f'block_{i}/{part}', *pair)
  return table | _ends(i + 2)


def _mobilenet_v3(model):
  table = {'dense': 'classifier.0', 'head': 'classifier.3'}
  for i, _, _, parts in _blocks(model):
    table |= _numbered(i, f'features.{i + 1}.block', parts)
  return table | _ends(i + 2)


def _efficientnet(model):
  table = {'head': 'classifier.1'}
  for i, stage, j, parts in _blocks(model):
    table |= _numbered(i, f'features.{stage + 1}.{j}.block', parts)
  return table | _ends(stage + 2)


def _numbered(i, name, parts):
  """A block whose parts torchvision numbers."""
  table = {}
  for k, part in enumerate(parts):
    table |= _pair(f'block_{i}/{part}', f'{name}.{k}.0', f'{name}.{k}.1')
    if part == 'squeeze_excite':
      table[f'block_{i}/{part}/reduce'] = f'{name}.{k}.fc1'
      table[f'block_{i}/{part}/expand'] = f'{name}.{k}.fc2'
  return table


def _ends(last):
  """First and last convolution of torchvision's `features`."""
  stem, last = 'features.0', f'features.{last}'
  return _pair('stem', f'{stem}.0', f'{stem}.1') | _pair(
    'last', f'{last}.0', f'{last}.1'
  )


def _timm_inverted(model):
  """timm, where MobileNet and EfficientNet are one."""
  table = _pair('stem', 'conv_stem', 'bn1') | {'head': 'classifier'}
  for i, stage, j, parts in _blocks(model):
    name, count = f'blocks.{stage}.{j}', 0
    for part in parts:
      if part == 'squeeze_excite':
        table[f'block_{i}/{part}/reduce'] = f'{name}.se.conv_reduce'
        table[f'block_{i}/{part}/expand'] = f'{name}.se.conv_expand'
        continue
      count += 1
      conv = {
        'expand': 'conv_pw',
        'depthwise': 'conv_dw',
        'project': 'conv_pwl' if 'expand' in parts else 'conv_pw',
      }[part]
      pair = (f'{name}.{conv}', f'{name}.bn{count}')
      table |= _pair(f'block_{i}/{part}', *pair)
  if getattr(model, 'hidden', 0):  # MobileNetV3
    last = f'blocks.{stage + 1}.0'
    return table | _pair('last', f'{last}.conv', f'{last}.bn1') | {
      'dense': 'conv_head'
    }  # fmt: skip
  return table | _pair('last', 'conv_head', 'bn2')


def _convnext(model):
  del model
  block = r'stage_(\d+)_block_(\d+)'
  part = lambda name: lambda i, j: f'features.{2 * i + 1}.{j}.{name}'
  return {
    'stem_conv': 'features.0.0',
    'stem_norm': 'features.0.1',
    r'downsample_(\d)_norm': lambda i: f'features.{2 * i}.0',
    r'downsample_(\d)_conv': lambda i: f'features.{2 * i}.1',
    f'{block}/depthwise': part('block.0'),
    f'{block}/norm': part('block.2'),
    f'{block}/expand': part('block.3'),
    f'{block}/project': part('block.5'),
    f'{block}/scale': part('layer_scale'),
    'norm': 'classifier.0',
    'head': 'classifier.2',
  }


def _timm_convnext(model):
  del model
  block = r'stage_(\d+)_block_(\d+)'
  part = lambda name: lambda i, j: f'stages.{i}.blocks.{j}.{name}'
  return {
    'stem_conv': 'stem.0',
    'stem_norm': 'stem.1',
    r'downsample_(\d)_norm': lambda i: f'stages.{i}.downsample.0',
    r'downsample_(\d)_conv': lambda i: f'stages.{i}.downsample.1',
    f'{block}/depthwise': part('conv_dw'),
    f'{block}/norm': part('norm'),
    f'{block}/expand': part('mlp.fc1'),
    f'{block}/project': part('mlp.fc2'),
    f'{block}/scale': part('gamma'),
    'norm': 'head.norm',
    'head': 'head.fc',
  }


def _vit(model, dense=('mlp.0', 'mlp.3')):
  """torchvision; its files have the older names of the dense layers."""
  del model
  block = r'block_(\d+)'
  part = lambda name: lambda i: f'encoder.layers.encoder_layer_{i}.{name}'
  return {
    'patches': 'conv_proj',
    'class_token': 'class_token',
    'positions': 'encoder.pos_embedding',
    f'{block}/norm_0': part('ln_1'),
    f'{block}/attention/qkv/kernel': part('self_attention.in_proj_weight'),
    f'{block}/attention/qkv/bias': part('self_attention.in_proj_bias'),
    f'{block}/attention/out': part('self_attention.out_proj'),
    f'{block}/norm_1': part('ln_2'),
    f'{block}/dense_0': part(dense[0]),
    f'{block}/dense_1': part(dense[1]),
    'norm': 'encoder.ln',
    'head': 'heads.head',
  }


def _timm_vit(model):
  del model
  block = r'block_(\d+)'
  part = lambda name: lambda i: f'blocks.{i}.{name}'
  return {
    'patches': 'patch_embed.proj',
    'class_token': 'cls_token',
    'positions': 'pos_embed',
    f'{block}/norm_0': part('norm1'),
    f'{block}/attention/qkv': part('attn.qkv'),
    f'{block}/attention/out': part('attn.proj'),
    f'{block}/norm_1': part('norm2'),
    f'{block}/dense_0': part('mlp.fc1'),
    f'{block}/dense_1': part('mlp.fc2'),
    'norm': 'norm',
    'head': 'head',
  }


def _pair(path, conv, norm):
  return {f'{path}/conv': conv, f'{path}/norm': norm}


def _dynunet(model):
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


def _segresnet(model):
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


def _vnet(model):
  del model
  unit = lambda name: (f'{name}.conv_block.conv', f'{name}.conv_block.adn.N')
  table = _pair('stem', *unit('in_tr')) | _pair('head/layer', *unit('out_tr'))
  table['head/logits'] = 'out_tr.conv2'
  for i in range(5):
    down, up = f'down_tr{16 * 2**i}', f'up_tr{32 * 2**i}'
    table |= _pair(f'down_{i}', f'{down}.down_conv', f'{down}.bn1')
    table |= {f'up_{i}': f'{up}.up_conv', f'up_norm_{i}': f'{up}.bn1'}
    for j in range(3):
      for path, name in ((f'encoder_{i}', down), (f'decoder_{i}', up)):
        table |= _pair(f'{path}/layer_{j}', *unit(f'{name}.ops.{j}'))
  return table


_TABLES = {
  'AlexNet': {'torchvision': _alexnet},
  'ConvNeXt': {'torchvision': _convnext, 'timm': _timm_convnext},
  'DenseNet': {
    'torchvision': _densenet,
    'torchvision, old': functools.partial(_densenet, between='.'),
    'MONAI': functools.partial(
      _densenet, layer='layers.', head='class_layers.out'
    ),
  },
  'EfficientNet': {'torchvision': _efficientnet, 'timm': _timm_inverted},
  'InceptionV3': {'torchvision': _inception},
  'MobileNet': {
    'torchvision V2': _mobilenet_v2,
    'torchvision V3': _mobilenet_v3,
    'timm': _timm_inverted,
  },
  'ResNet': {'torchvision': _resnet},
  'SegResNet': {'MONAI': _segresnet},
  'UNet': {'MONAI DynUNet': _dynunet},
  'VGG': {'torchvision': _vgg},
  'VNet': {'MONAI': _vnet},
  'ViT': {
    'torchvision': _vit,
    'torchvision, old': functools.partial(
      _vit, dense=('mlp.linear_1', 'mlp.linear_2')
    ),
    'timm': _timm_vit,
  },
}
# Copies in a file of what it holds elsewhere, and counters.
_COPIES = re.compile(r'(^|\.)num_batches_tracked$|^skip_layers\.')
_LEAVES = {
  'kernel': 'weight', 'scale': 'weight', 'bias': 'bias',
  'mean': 'running_mean', 'var': 'running_var',
}  # fmt: skip


def match(model, paths, weights):
  """(library, table) whose names for a Linen module are those of the file.

  Raises:
    ValueError: if none is.
  """
  kind = type(model).__name__
  if kind not in _TABLES:
    raise ValueError(
      f"no library's names are known for {kind}, only for " + ', '.join(_TABLES)
    )
  tables = {library: table(model) for library, table in _TABLES[kind].items()}
  found = {
    library: sum(translate(table, path) in weights for path in paths)
    for library, table in tables.items()
  }
  best = max(found, key=found.get)
  if not found[best]:
    raise ValueError(
      f'none of its names is that of a {kind} in {", ".join(tables)}; it has '
      + ', '.join([*weights][:3])
      + ', …'
    )
  return best, tables[best]


def translate(table, path):
  """The name of theirs for the path of a parameter of ours, or None."""
  module, _, leaf = path.rpartition('/')
  for pattern, name in table.items():
    for ours, suffix in ((path, ''), (module, f'.{_LEAVES.get(leaf)}')):
      if groups := re.fullmatch(pattern, ours):
        name = name(*map(int, groups.groups())) if callable(name) else name
        return name + suffix
  return None


def without_copies(weights):
  """The weights that a file holds once."""
  return {k: v for k, v in weights.items() if not _COPIES.search(k)}


def is_head(table, name):
  """Whether a name of theirs belongs to a classifying layer."""
  heads = [v for k, v in table.items() if re.match('head|aux', k)]
  return name.startswith(tuple(f'{head}.' for head in heads))
