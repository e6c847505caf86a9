"""Cases → samples → batches → devices.

Batch k of a run is a pure function of (cases, seed, k): the loop can start at
any step, on any number of processes, and sees the same examples.
"""

import collections
import functools
import threading

import grain
import jax
import numpy as np

from medjax.data import transforms

_SMALL = 2**16  # bytes of a sample


class Cached:
  """A sequence of preprocessed cases, held in memory up to a budget.

  Preparing a small set once makes its loading free from then on; what does
  not fit is read again each time.
  """

  def __init__(self, cases, preprocess, *, budget_bytes):
    self._cases = cases
    self._preprocess = preprocess
    self._budget = budget_bytes
    self._held = {}
    self._lock = threading.Lock()

  @property
  def referenced(self):
    """Which cases have their reference, if the cases say so, else None."""
    return getattr(self._cases, 'referenced', None)

  def __len__(self):
    return len(self._cases)

  def __getitem__(self, index):
    if index in self._held:
      return self._held[index]
    sample = self._preprocess(self._cases[index])
    size = _size(sample)
    with self._lock:
      if index not in self._held and size <= self._budget:
        self._budget -= size
        self._held[index] = sample
    return sample


def _size(sample):
  """Bytes of the arrays of a sample, and of the case within it."""
  nested = sum(_size(v) for v in sample.values() if isinstance(v, dict))
  return nested + sum(
    v.nbytes for v in sample.values() if isinstance(v, np.ndarray)
  )


class TrainStream:
  """The samples of this process, by position; shuffled anew each epoch.

  A batch_size of 0 is all cases at once, filled up to a multiple of `parts`
  with cases that have none of the `fields`, and count for nothing where the
  task's loss says so.

  Global batch k holds stream positions k·B … (k+1)·B - 1, each process an
  equal run of them in order. A position gives the epoch, the case and the
  random numbers of its patch.

  Of samples that say which are `referenced` (medjax.data.labelled) those make a
  `share` of each batch, in an order of their own: few would be in few batches.

  An example has the `inputs` of the model and the `fields` of the task, in the
  form of the first case that has them: shape and dtype, for a step is compiled
  for one of them. Images are float32, whatever they are stored as. A field that
  a case lacks is zeros, and valid[field] is False.
  """

  def __init__(
    self,
    samples,
    *,
    batch_size,
    steps,
    inputs=('image',),
    fields=(),
    seed=0,
    patch_size=(),
    foreground=0.0,
    ignore=None,
    share=0.5,
    process_index=0,
    process_count=1,
    parts=1,
  ):
    whole = not batch_size
    batch_size = batch_size or -(-len(samples) // parts) * parts
    self._epoch = batch_size if whole else len(samples)
    if batch_size % process_count:
      raise ValueError(
        f'data.batch_size {batch_size} cannot be split over '
        f'{process_count} processes'
      )
    self._samples = samples
    self.batch_size = batch_size
    self._global, self._local = batch_size, batch_size // process_count
    self._steps, self._seed, self._process = steps, seed, process_index
    self._patch_size = patch_size
    self._patches = {'foreground': foreground, 'ignore': ignore}
    # A batch may span epochs, and threads work on several batches.
    self._order = functools.lru_cache(maxsize=8)(self._shuffled)
    self._groups = self._labelled = None
    referenced = getattr(samples, 'referenced', None)
    if (
      not whole
      and referenced is not None
      and 0 < sum(referenced) < len(samples)
    ):
      self._groups = np.flatnonzero(referenced), np.flatnonzero(~referenced)
      self._labelled = min(max(round(batch_size * share), 1), batch_size - 1)
    self._inputs, self._fields = inputs, fields
    self.sample_bytes = 0  # of those looked at, before a patch is cut
    self._form = self._find_form()

  def __len__(self):
    return self._steps * self._local

  def __repr__(self):
    return f'TrainStream(seed={self._seed}, cases={len(self._samples)})'

  def __getitem__(self, index):
    batch, slot = divmod(index, self._local)
    position = batch * self._global + self._process * self._local + slot
    sample = self._patch(self._samples[self._case(position)], position)
    if position % self._epoch >= len(self._samples):
      sample = {k: v for k, v in sample.items() if k not in self._fields}
    return self._example(sample, position)

  @property
  def inputs(self):
    """What the model is called with, as shapes and dtypes, a batch of one."""
    return tuple(
      jax.ShapeDtypeStruct((1, *self._form[k].shape), self._form[k].dtype)
      for k in self._inputs
    )

  def _example(self, sample, position):
    example = {name: self._value(sample, name) for name in self._form}
    example['valid'] = {k: np.bool_(k in sample) for k in self._fields}
    example['index'] = np.uint32(position % 2**32)
    return example

  def _patch(self, sample, position):
    if not self._patch_size:
      return sample
    rng = np.random.default_rng((self._seed, position))
    return transforms.patch(sample, rng, size=self._patch_size, **self._patches)

  def _find_form(self):
    """Shape and dtype of each field of an example."""
    names = [*dict.fromkeys((*self._inputs, *self._fields))]
    form = {}
    for place in range(len(self._samples)):
      sample = self._samples[place]
      self.sample_bytes = max(self.sample_bytes, _size(sample))
      sample = self._patch(sample, 0)
      for name in names:
        if name in sample and name not in form:
          x = np.asarray(sample[name])
          # Images may be stored otherwise in each case, or be absent, NaN.
          image = name in self._inputs and x.ndim > 2 and name != 'mask'
          floats = image or name == 'image'
          dtype = np.float32 if floats else x.dtype
          form[name] = jax.ShapeDtypeStruct(x.shape, dtype)
      if len(form) == len(names):
        return {name: form[name] for name in names}
    missing = next(name for name in names if name not in form)
    raise ValueError(f'no case of the training split has a {missing}')

  def _value(self, sample, name):
    """A field of a sample, which has the form of all others."""
    form = self._form[name]
    if name not in sample and name in self._fields:
      return np.zeros(form.shape, form.dtype)
    if name not in sample:
      raise ValueError(f'case {sample["id"]!r} has no {name}')
    value = np.asarray(sample[name])
    if value.shape == form.shape:
      return self._cast(sample, name, value)
    advice = 'convert one of them'
    if value.shape[-1:] == form.shape[-1:]:
      advice = 'set data.patch_size, or resize in data.preprocess'
    raise ValueError(
      f'case {sample["id"]!r}: its {name} is {value.shape} (channels '
      f'last), that of the first case {form.shape}, and a batch needs one '
      f'shape: {advice}'
    )

  def _cast(self, sample, name, value):
    """A field in the dtype of all others, unless numbers would be lost."""
    dtype = self._form[name].dtype
    if value.dtype == dtype or name == 'mask':  # a batch makes it int32
      return value
    if dtype == np.float32 or np.can_cast(value.dtype, dtype):
      return value.astype(dtype)
    raise ValueError(
      f'case {sample["id"]!r}: its {name} is {value.dtype}, that of the first '
      f'case {dtype}, and a batch needs one type: convert one of them'
    )

  def _case(self, position):
    if self._groups and self._labelled:
      return self._of_groups(*divmod(position, self._global))
    epoch, place = divmod(position, self._epoch)
    return int(self._order(epoch)[place % len(self._samples)])

  def _of_groups(self, batch, slot):
    """The case at a slot of a batch: those with a reference lie evenly."""
    before = slot * self._labelled // self._global
    labelled = (slot + 1) * self._labelled // self._global > before
    if labelled:
      place = batch * self._labelled + before
    else:
      others = self._global - self._labelled
      place = batch * others + slot - before
    group = self._groups[0 if labelled else 1]
    epoch, place = divmod(place, len(group))
    return int(group[self._order(epoch, labelled)[place]])

  def _shuffled(self, epoch, labelled=None):
    """The cases in the order of an epoch, or those of a group."""
    if labelled is None:
      rng = np.random.default_rng((self._seed, epoch))
      return rng.permutation(len(self._samples))
    rng = np.random.default_rng((self._seed, epoch, int(labelled)))
    return rng.permutation(len(self._groups[0 if labelled else 1]))


class _Batches:
  """A sequence of examples as a sequence of batches, for Grain.

  Grain's own batching takes longer than all the rest on images of 28 pixels.
  """

  def __init__(self, examples, size):
    self._examples, self._size = examples, size

  def __len__(self):
    return len(self._examples) // self._size

  def __getitem__(self, k):
    places = range(k * self._size, (k + 1) * self._size)
    return _stacked([self._examples[i] for i in places])


def _stacked(examples):
  """Examples as a batch."""
  batch = jax.tree.map(lambda *values: np.stack(values), *examples)
  if 'mask' in batch:
    # Masks rest in memory in one byte a voxel and train as int32.
    batch['mask'] = batch['mask'].astype(np.int32)
  return batch


def train_batches(stream, *, local_batch_size, start_step):
  """Iterates the batches of this process from `start_step` on (numpy)."""
  # Small samples take Python's time, for which threads would fight.
  threads = 1 if stream.sample_bytes < _SMALL else 4
  dataset = grain.MapDataset.source(_Batches(stream, local_batch_size))
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4)
  return iter(dataset[start_step:].to_iter_dataset(options))


def to_device(batches, sharding, *, depth=2):
  """Puts batches on the mesh, `depth` of them ahead of the consumer."""
  queue = collections.deque()
  for batch in batches:
    queue.append(
      jax.tree.map(
        lambda v: jax.make_array_from_process_local_data(sharding, v), batch
      )
    )
    if len(queue) >= depth:
      yield queue.popleft()
  yield from queue
