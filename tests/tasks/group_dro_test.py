"""GroupDRO: the loss of the paper's algorithm, and weights that carry on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from medjax import engine
from medjax.models import LeNet5
from medjax.tasks import GroupDRO

TASK = GroupDRO(num_classes=2, groups=3, rate=0.5)


class Fixed:
  """A forward pass of given logits."""

  def __init__(self, logits):
    self.logits, self.variables = logits, TASK.variables

  def __call__(self, image):
    return self.logits


def test_the_loss_is_the_weighted_sum_of_group_means():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(8, 2)), jnp.float32)
  batch = {
    'image': jnp.zeros((8, 4, 4, 1)),
    'label': jnp.asarray([0, 1] * 4),
    'group': jnp.asarray([0, 0, 0, 1, 1, 1, 1, 1]),
  }
  forward = Fixed(logits)
  each = optax.softmax_cross_entropy_with_integer_labels(logits, batch['label'])
  mean = np.array([each[:3].mean(), each[3:].mean(), 0.0])
  weight = np.exp(0.5 * mean) / 3  # the third is not in the batch
  weight /= weight.sum()
  losses = TASK.loss(forward, batch)
  assert losses.shape == (8,)
  np.testing.assert_allclose(losses.mean(), weight @ mean, rtol=1e-5)
  found = forward.variables['group_dro']['weight']
  np.testing.assert_allclose(found, weight, rtol=1e-5)


def test_weights_carry_on_from_step_to_step():
  mesh = engine.make_mesh(jax.devices()[:1])
  model, tx = LeNet5(num_classes=2), optax.sgd(0.0)
  image = jax.random.normal(jax.random.key(0), (4, 16, 16, 1))
  state = engine.create_state(
    model, tx, [image], jax.random.key(1), mesh, more=TASK.variables
  )
  step = engine.make_train_step(model, TASK, tx, lambda key, b: b, mesh)
  batch = {
    'image': image,
    'label': jnp.asarray([0, 0, 1, 1]),
    'group': jnp.asarray([0.0, 0, 1, 1]),  # as a table's column comes
    'index': jnp.arange(4, dtype=jnp.uint32),
  }
  metrics, found = engine.empty_metrics(mesh), []
  for _ in range(3):
    state, metrics = step(state, metrics, batch, jax.random.key(2))
    found.append(np.asarray(state.variables['group_dro']['weight']))
  ratio = [w[1] / w[0] for w in found]
  # The losses stay (a learning rate of 0): the ratio grows by one factor.
  np.testing.assert_allclose(ratio[1] / ratio[0], ratio[0], rtol=1e-4)
  np.testing.assert_allclose(ratio[2] / ratio[1], ratio[0], rtol=1e-4)
  assert model.apply(state.eval_variables, image, train=False).shape == (4, 2)


@pytest.mark.parametrize('group', [None, 3, -1, 0.5, float('nan')])
def test_a_group_that_is_none_is_refused(group):
  case = {'id': 'a', 'label': np.int32(0)}
  if group is not None:
    case['group'] = group
  with pytest.raises(ValueError, match='none of 0 to 2'):
    TASK.check(case)


def test_there_are_two_groups_or_more():
  with pytest.raises(ValueError, match='2 or more'):
    GroupDRO(num_classes=2, groups=1)
