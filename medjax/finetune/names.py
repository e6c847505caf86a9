"""What other libraries call the layers of our models.

A table maps the path of a module or parameter of ours, a regular expression
whose groups are numbers, to the name of theirs.
"""

import functools
import math
import re

from medjax.finetune import segmentation_names
from medjax.finetune.segmentation_names import conv_norm


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
      table |= conv_norm(f'block_{i}/{part}', *pair)
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
    table |= conv_norm(f'block_{i}/{part}', f'{name}.{k}.0', f'{name}.{k}.1')
    if part == 'squeeze_excite':
      table[f'block_{i}/{part}/reduce'] = f'{name}.{k}.fc1'
      table[f'block_{i}/{part}/expand'] = f'{name}.{k}.fc2'
  return table


def _ends(last):
  """First and last convolution of torchvision's `features`."""
  stem, last = 'features.0', f'features.{last}'
  return conv_norm('stem', f'{stem}.0', f'{stem}.1') | conv_norm(
    'last', f'{last}.0', f'{last}.1'
  )


def _timm_inverted(model):
  """timm, where MobileNet and EfficientNet are one."""
  table = conv_norm('stem', 'conv_stem', 'bn1') | {'head': 'classifier'}
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
      table |= conv_norm(f'block_{i}/{part}', *pair)
  if getattr(model, 'hidden', 0):  # MobileNetV3
    last = f'blocks.{stage + 1}.0'
    return table | conv_norm('last', f'{last}.conv', f'{last}.bn1') | {
      'dense': 'conv_head'
    }  # fmt: skip
  return table | conv_norm('last', 'conv_head', 'bn2')


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
  'MedNeXt': {
    'MONAI': functools.partial(segmentation_names.mednext, monai=True),
    'MIC-DKFZ': functools.partial(segmentation_names.mednext, monai=False),
  },
  'MobileNet': {
    'torchvision V2': _mobilenet_v2,
    'torchvision V3': _mobilenet_v3,
    'timm': _timm_inverted,
  },
  'ResEncUNet': {'nnU-Net': segmentation_names.nnunet},
  'ResNet': {'torchvision': _resnet},
  'SegResNet': {'MONAI': segmentation_names.segresnet},
  'SwinUNETR': {'MONAI': segmentation_names.swin_unetr},
  'UNETR': {'MONAI': segmentation_names.unetr},
  'UNet': {
    'MONAI DynUNet': segmentation_names.dynunet,
    'nnU-Net': segmentation_names.nnunet,
  },
  'UNet2018': {'MONAI UNet': segmentation_names.unet2018},
  'VGG': {'torchvision': _vgg},
  'VNet': {'MONAI': segmentation_names.vnet},
  'ViT': {
    'torchvision': _vit,
    'torchvision, old': functools.partial(
      _vit, dense=('mlp.linear_1', 'mlp.linear_2')
    ),
    'timm': _timm_vit,
  },
}
# Copies in a file of what it holds elsewhere, counters, and what nothing uses.
_COPIES = re.compile(
  r'(^|\.)num_batches_tracked$|^skip_layers\.|^decoder\.encoder\.'
  r'|\.all_modules\.|\.relative_position_index$|\.norm_cross_attn\.'
  r'|^dummy_tensor$'
)
_LEAVES = {
  'kernel': 'weight', 'scale': 'weight', 'bias': 'bias',
  'mean': 'running_mean', 'var': 'running_var', 'slope': 'weight',
}  # fmt: skip


def match(model, paths, weights):
  """(library, table) whose names for a Linen module are those of the file.

  Raises:
    ValueError: if none is, or for a group norm of which nobody says how many
      groups it has: weights do not tell.
  """
  kind = type(model).__name__
  # SegResNet's default is that of MONAI.
  grouped = getattr(model, 'norm', None) == 'group' and kind != 'SegResNet'
  if grouped and getattr(model, 'groups', None) is None:
    raise ValueError(
      'weights do not tell how many groups their group norm has: give it as '
      "the model's `groups` (num_groups in MONAI and nnU-Net)"
    )
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
