"""Fine-tuning: what of a model trains. The imports are the registry."""

from medjax.finetune.methods import (
  bitfit,
  bottleneck,
  full,
  linear_probe,
  lora,
  mixstyle,
)

__all__ = ['bitfit', 'bottleneck', 'full', 'linear_probe', 'lora', 'mixstyle']
