import pytest

from medjax import models


def test_is_the_paper_assembled_in_torch(assert_parity):
  torch = pytest.importorskip('torch')
  nn = torch.nn

  class Norm(nn.LayerNorm):
    def forward(self, x):
      return super().forward(x.movedim(1, -1)).movedim(-1, 1)

  class Block(nn.Module):
    def __init__(self, channels):
      super().__init__()
      self.depthwise = nn.Conv2d(channels, channels, 7, 1, 3, groups=channels)
      self.norm = nn.LayerNorm(channels, 1e-6)
      self.expand = nn.Linear(channels, 4 * channels)
      self.project = nn.Linear(4 * channels, channels)
      self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x):
      y = self.norm(self.depthwise(x).movedim(1, -1))
      y = self.project(nn.functional.gelu(self.expand(y)))
      return x + (y * self.scale).movedim(-1, 1)

  net = nn.Sequential()
  net.add_module('stem_conv', nn.Conv2d(1, 4, 4, 4))
  net.add_module('stem_norm', Norm(4, 1e-6))
  net.add_module('stage_0_block_0', Block(4))
  net.add_module('downsample_1_norm', Norm(4, 1e-6))
  net.add_module('downsample_1_conv', nn.Conv2d(4, 8, 2, 2))
  net.add_module('stage_1_block_0', Block(8))
  net.add_module('stage_1_block_1', Block(8))
  net.add_module('average', nn.AdaptiveAvgPool2d(1))
  net.add_module('flatten', nn.Flatten())
  net.add_module('norm', nn.LayerNorm(8, 1e-6))
  net.add_module('head', nn.Linear(8, 3))
  model = models.ConvNeXt(3, (1, 2), width=4)
  assert_parity(model, net, (2, 31, 37, 1), gradients=True)
