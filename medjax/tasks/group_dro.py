"""Classification for the group that fares worst (GroupDRO)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from medjax.tasks.classification import Classification

_STATE = 'group_dro'  # the collection of variables that holds the weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupDRO(Classification):
  """Weighs groups of cases by how badly they fare, as training goes on.

  Sagawa et al. 2020, algorithm 1: the weight of a group is multiplied by
  exp(rate · its loss) at each step, and the loss is the weighted sum of the
  groups' means. A case needs a column `group`: whole numbers from 0, one for
  each site, say. It helps with regularisation (weight decay, early stop): a
  network that fits every case has no worst group in training.

  groups: how many there are.
  rate: of the weights, the paper's step size.
  """

  fields: ClassVar = ('label', 'group')
  over_batch: ClassVar = True
  groups: int
  rate: float = 0.01

  def __post_init__(self, loss):
    super().__post_init__(loss)
    if self.groups < 2:
      raise ValueError(f'groups={self.groups}: there must be 2 or more')

  @property
  def variables(self):
    """What a step changes besides the model's: the weight of each group."""
    weight = np.full(self.groups, 1 / self.groups, np.float32)
    return {_STATE: {'weight': weight}}

  def loss(self, forward, batch):
    """Losses (b,) whose mean is the weighted sum of the groups' means."""
    each = super().loss(forward, batch)
    member = jax.nn.one_hot(batch['group'].astype(int), self.groups)
    count = member.sum(0)
    mean = each @ member / jnp.maximum(count, 1)
    weight = forward.variables[_STATE]['weight']
    # A group that is not in the batch keeps its weight.
    weight = weight * jnp.exp(self.rate * jax.lax.stop_gradient(mean))
    weight = weight / weight.sum()
    forward.variables = {**forward.variables, _STATE: {'weight': weight}}
    factor = weight * len(each) / jnp.maximum(count, 1)
    return each * (member @ factor)

  def check(self, case):
    """Raises ValueError for a label or a group that it cannot use."""
    super().check(case)
    group = case.get('group', np.nan)
    if group not in range(self.groups):
      raise ValueError(
        f'case {case.get("id")!r}: group {group} is none of 0 to '
        f'{self.groups - 1}: a column `group` of whole numbers says it'
      )
