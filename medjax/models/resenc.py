"""The residual-encoder U-Net of nnU-Net's ResEnc plans, 2-D and 3-D."""

import functools
from collections.abc import Sequence

import flax.linen as nn

from medjax.models.layers import depth_rates
from medjax.models.unet import UNet

# Of each stage, the finest first (nnU-Net's ResEncUNetPlanner).
_BLOCKS = (1, 3, 4, 6)


class ResEncUNet(UNet):
  """U-Net with a residual encoder (Isensee et al. 2024) as nnU-Net has it.

  Its ResEnc M, L and XL are this network; they differ by the memory that patch
  and batch are planned for (8, 24 and 40 GB), and so by patch and stages. The
  decoder has one convolution per stage. Options and sizes are those of UNet.

  A residual block is two convolutions; the first of a stage strides, and its
  input is averaged over the stride and projected (He et al. 2019, ResNet-D).

  Parameters lie under stem, encoder_0_block_0 …, upsample_i, decoder_i and
  head: encoder_1_block_0/conv_0/kernel, encoder_1_block_0/shortcut_conv/kernel.

  Attributes:
    blocks_per_stage: residual blocks of each stage. None: 1, 3, 4, then 6.
    convs_per_stage: convolutions of a decoder's stage.
    drop_path: rate of stochastic depth at the encoder's last block, growing
      from 0.
  """

  features: Sequence[int] = (32, 64, 128, 256, 320, 320)
  convs_per_stage: int = 1
  blocks_per_stage: Sequence[int] | None = None

  @nn.nowrap
  def _encode(self, x, train):
    """The map of every stage, the finest first."""
    strides, kernels, _ = self._plan(x.ndim - 2)
    blocks, ones = self._blocks(), (1,) * (x.ndim - 2)
    stage = functools.partial(self._stage, residual=True, convs=2)
    x = self._stage('stem', 0, kernels[0], ones, convs=1)(x, train)
    maps = []
    rates = iter(depth_rates(self.drop_path, sum(blocks)))
    for i, stride in enumerate(strides):
      for j in range(blocks[i]):
        name, stride = f'encoder_{i}_block_{j}', ones if j else stride
        block = stage(name, i, kernels[i], stride, drop_path=next(rates))
        x = block(x, train)
      maps.append(x)
    return maps

  @nn.nowrap
  def _blocks(self):
    """Residual blocks of each stage."""
    stages = len(self.features)
    blocks = self.blocks_per_stage
    if blocks is None:
      blocks = (*_BLOCKS, *_BLOCKS[-1:] * stages)[:stages]
    if len(blocks) != stages:
      raise ValueError(
        f'ResEncUNet has {stages} stages (features={tuple(self.features)}) but '
        f'{len(blocks)} blocks_per_stage; give {stages}'
      )
    return blocks
