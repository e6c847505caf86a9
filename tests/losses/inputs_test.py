"""Every loss: types of targets, valid positions, far logits, refusals."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from medjax import losses
from medjax.losses import inputs

K = 3
ALL = losses.__all__
MAPS = ('cl_dice', 'hausdorff')  # these need space
ENTROPIES = ('cross_entropy', 'binary_cross_entropy', 'focal')
MULTI = [n for n in ALL if 'entropy' not in n]
LABELS = ['int8', 'int16', 'int32', 'uint8', 'uint16', 'uint32']


def _data(b=2, shape=(6, 5), seed=0):
  rng = np.random.default_rng(seed)
  logits = rng.normal(size=(b, *shape, K)).astype(np.float32)
  return jnp.asarray(logits), rng.integers(K, size=(b, *shape))


@pytest.fixture
def unchecked():
  """Outside of pytest nobody checks the annotations."""
  jaxtyping.config.update('jaxtyping_disable', True)
  yield
  jaxtyping.config.update('jaxtyping_disable', False)


@pytest.mark.parametrize('dtype', [*LABELS, 'bool'])
def test_labels_of_any_type_are_read_as_int32(dtype):
  logits, target = _data(shape=(3,))
  target = target % 2 if dtype == 'bool' else target
  read = inputs.read(logits, jnp.asarray(target.astype(dtype)))
  np.testing.assert_array_equal(read.target, np.eye(K)[target])
  assert read.hard


@pytest.mark.parametrize(
  'dtype', ['bool', *LABELS, 'float16', 'bfloat16', 'float32']
)
def test_one_number_per_output_of_any_type_is_read_as_float32(dtype):
  logits, target = _data(shape=(3,))
  hot = np.eye(K)[target]
  read = inputs.read(logits, jnp.asarray(hot, dtype))
  assert read.target.dtype == jnp.float32
  np.testing.assert_array_equal(read.target, hot)


@pytest.mark.parametrize('name', ALL)
def test_labels_and_their_one_hot_have_one_loss(name):
  function = jax.jit(getattr(losses, name))
  logits, target = _data()
  np.testing.assert_allclose(
    function(logits, jnp.eye(K)[target]),
    function(logits, jnp.asarray(target, jnp.uint8)),
    rtol=1e-6,
  )


def test_arrays_of_numpy_are_read_too():
  logits, target = _data()
  valid = np.ones(target.shape, bool)
  ours = losses.dice(np.asarray(logits, float), target, valid=valid)
  theirs = losses.dice(logits, jnp.asarray(target))
  np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize('name', ALL)
def test_every_loss_refuses_what_is_no_target(name):
  logits, target = _data()
  with pytest.raises(ValueError, match='not 255'):
    getattr(losses, name)(logits, jnp.asarray(np.where(target > 0, 255, 0)))


@pytest.mark.usefixtures('unchecked')
def test_what_is_no_target_is_refused():
  function = losses.dice
  logits, target = _data()
  hot = np.eye(K)[target]
  for bad, message in (
    (np.where(target > 0, 255, 0), 'labels must be from 0 to 2, not 255'),
    (np.where(target > 0, 255, 0).astype(np.uint8), 'not 255'),
    (target - 1, 'labels must be from 0 to 2, not -1'),
    (hot * 255, 'targets must be from 0 to 1, not 255'),
    ((hot * 255).astype(np.uint8), 'targets must be from 0 to 1, not 255'),
    (hot * np.nan, 'targets must be from 0 to 1'),
    (target.astype(np.float32), 'must be integers'),
    (target[..., None], 'fits logits'),
    (target[:1], 'fits logits'),
    (hot[..., :2], 'fits logits'),
  ):
    with pytest.raises(ValueError, match=message):
      function(logits, jnp.asarray(bad))
  with pytest.raises(ValueError, match='logits must be floating'):
    function(logits.astype(int), jnp.asarray(target))


@pytest.mark.parametrize('name', ALL)
def test_a_bad_target_under_jit_makes_its_example_nan(name):
  function = jax.jit(getattr(losses, name))
  logits, target = _data()
  target[1, 2, 2] = 255
  value = function(logits, jnp.asarray(target))
  assert np.isfinite(value[0])
  assert np.isnan(value[1])


def test_a_bad_number_per_output_under_jit_makes_its_example_nan():
  logits, target = _data()
  hot = np.eye(K)[target]
  hot[1, 2, 2] = 255
  value = jax.jit(losses.dice)(logits, jnp.asarray(hot))
  assert np.isfinite(value[0])
  assert np.isnan(value[1])


def test_one_output_is_no_softmax_and_no_label_map():
  logits, target = jnp.zeros((2, 4, 4, 1)), jnp.ones((2, 4, 4), int)
  with pytest.raises(ValueError, match='softmax of one output'):
    losses.dice(logits, target[..., None])
  # One-hot over one class, background was what the sigmoid learnt to find.
  with pytest.raises(ValueError, match='label map needs 2 outputs'):
    losses.binary_cross_entropy(logits, target)
  with pytest.raises(ValueError, match='label map needs 2 outputs'):
    losses.dice(logits, target, multi_label=True)
  assert losses.dice(logits, target[..., None], multi_label=True).shape == (2,)


@pytest.mark.parametrize('name', ALL)
@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_far_logits_have_finite_values_and_gradients(name, dtype):
  """The right class and the wrong one at the largest number of the type."""
  function = getattr(losses, name)
  most = float(jnp.finfo(dtype).max)
  step = jax.jit(jax.value_and_grad(lambda z, y: function(z, y).sum()))
  for label in (0, 1):
    for k in range(K):
      z = np.full((2, 6, 5, K), -most)
      z[..., k] = most
      z = jnp.asarray(z, dtype)
      value, gradient = step(z, jnp.full((2, 6, 5), label))
      assert np.isfinite(value), (label, k)
      assert np.isfinite(np.float32(gradient)).all(), (label, k)
      if name in ENTROPIES[1:2] and label != k:
        assert np.abs(np.float32(gradient)).max() > 0  # it can be learnt from


@pytest.mark.parametrize('multi_label', [False, True])
@pytest.mark.parametrize('name', ALL)
def test_what_is_not_valid_is_as_if_it_were_not_there(name, multi_label):
  function = getattr(losses, name)
  if multi_label and name not in MULTI:
    pytest.skip('of one kind only')
  options = {'multi_label': multi_label} if name in MULTI else {}
  logits, target = _data()
  valid = np.ones((2, 6, 5), bool)
  valid[:, 4:] = False  # rows that a cut takes away
  marked = jnp.where(valid, target, 255)  # an ignore label
  f = jax.jit(
    jax.value_and_grad(
      lambda z: function(z, marked, valid=jnp.asarray(valid), **options).sum()
    )
  )
  ours, gradient = f(logits)
  if name in MAPS:  # their neighbourhood sees the border
    assert np.isfinite(ours)
  else:
    cut = function(logits[:, :4], jnp.asarray(target[:, :4]), **options)
    assert float(ours) == pytest.approx(float(cut.sum()), rel=1e-5)
  # Neither the labels nor the logits there matter; no gradient reaches them.
  again, _ = f(jnp.where(valid[..., None], logits, 1e30))
  assert float(again) == pytest.approx(float(ours), rel=1e-6)
  assert not np.asarray(gradient)[~valid].any()
  assert np.asarray(gradient)[valid].any()


@pytest.mark.parametrize('name', ALL)
def test_nothing_valid_is_no_loss(name):
  logits, _ = _data()
  target = jnp.full((2, 6, 5), -1)
  valid = jnp.zeros((2, 6, 5), bool)
  f = lambda z: getattr(losses, name)(z, target, valid=valid).sum()
  value, gradient = jax.jit(jax.value_and_grad(f))(logits)
  assert float(value) == pytest.approx(0, abs=1e-6)
  assert not np.asarray(gradient).any()


def test_labels_not_known_of_every_example():
  """CheXpert's blanks: NaN in the target, False in valid."""
  logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
  target = np.array([[1, 0, np.nan, 1], [np.nan] * 4, [0, 0, 1, 1]])
  valid = ~np.isnan(target)
  args = logits, jnp.asarray(target)
  ours = losses.binary_cross_entropy(*args, valid=jnp.asarray(valid))
  z = np.asarray(logits, float)
  each = np.logaddexp(0, np.where(target == 1, -z, z))
  np.testing.assert_allclose(ours[0], each[0][valid[0]].mean(), rtol=1e-6)
  np.testing.assert_allclose(ours[2], each[2].mean(), rtol=1e-6)
  assert ours[1] == 0
  ours = losses.focal(
    *args, valid=jnp.asarray(valid), multi_label=True, gamma=0.0
  )
  np.testing.assert_allclose(ours[0], each[0][valid[0]].mean(), rtol=1e-6)


@pytest.mark.usefixtures('unchecked')
def test_valid_that_does_not_fit_is_refused():
  logits, target = _data()
  target = jnp.asarray(target)
  with pytest.raises(ValueError, match='valid must be bool, not int32'):
    losses.dice(logits, target, valid=jnp.ones((2, 6, 5), jnp.int32))
  with pytest.raises(ValueError, match='a position counts or does not'):
    losses.dice(logits, target, valid=jnp.ones((2, 6, 5, K), bool))
  with pytest.raises(ValueError, match='a position counts or does not'):
    losses.dice(logits, target, valid=jnp.ones((2, 1, 1), bool))


@pytest.mark.parametrize('name', ['cross_entropy', 'focal', 'dice', 'jaccard'])
def test_class_weights_are_one_per_class(name):
  logits, target = _data()
  with pytest.raises(ValueError, match='class_weights has 1 numbers, not 3'):
    getattr(losses, name)(logits, jnp.asarray(target), class_weights=(2.0,))
