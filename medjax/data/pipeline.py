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

BATCHED = ('image', 'mask', 'label')


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

  def __len__(self):
    return len(self._cases)

  def __getitem__(self, index):
    if index in self._held:
      return self._held[index]
    sample = self._preprocess(self._cases[index])
    size = sum(v.nbytes for v in sample.values() if isinstance(v, np.ndarray))
    with self._lock:
      if index not in self._held and size <= self._budget:
        self._budget -= size
        self._held[index] = sample
    return sample


class TrainStream:
  """The samples of this process, by position; shuffled anew each epoch.

  Global batch k holds stream positions k·B … (k+1)·B - 1, each process an
  equal run of them in order. A position gives the epoch, the case and the
  random numbers of its patch.
  """

  def __init__(
    self,
    samples,
    *,
    batch_size,
    steps,
    seed=0,
    patch_size=(),
    foreground=0.0,
    process_index=0,
    process_count=1,
  ):
    if batch_size % process_count:
      raise ValueError(
        f'data.batch_size {batch_size} cannot be split over '
        f'{process_count} processes'
      )
    self._samples = samples
    self._global, self._local = batch_size, batch_size // process_count
    self._steps, self._seed, self._process = steps, seed, process_index
    self._patch_size, self._foreground = patch_size, foreground
    # A batch may span epochs, and threads work on several batches.
    self._order = functools.lru_cache(maxsize=8)(self._shuffled)
    shape = samples[0]['image'].shape
    self._shape = (*patch_size, shape[-1]) if patch_size else shape

  def __len__(self):
    return self._steps * self._local

  def __repr__(self):
    return f'TrainStream(seed={self._seed}, cases={len(self._samples)})'

  def __getitem__(self, index):
    batch, slot = divmod(index, self._local)
    position = batch * self._global + self._process * self._local + slot
    sample = self._samples[self._case(position)]
    if self._patch_size:
      rng = np.random.default_rng((self._seed, position))
      sample = transforms.patch(
        sample, rng, size=self._patch_size, foreground=self._foreground
      )
    self._check(sample)
    example = {k: sample[k] for k in BATCHED if k in sample}
    example['index'] = np.uint32(position % 2**32)
    return example

  def _check(self, sample):
    shape = sample['image'].shape
    if shape == self._shape:
      return
    advice = 'convert one of them'
    if shape[-1] == self._shape[-1]:
      advice = 'set data.patch_size, or resize in data.preprocess'
    raise ValueError(
      f'case {sample["id"]!r}: its image is {shape} (channels last), that of '
      f'the first case {self._shape}, and a batch needs one shape: {advice}'
    )

  def _case(self, position):
    epoch, place = divmod(position, len(self._samples))
    return int(self._order(epoch)[place])

  def _shuffled(self, epoch):
    """The cases in the order of an epoch."""
    rng = np.random.default_rng((self._seed, epoch))
    return rng.permutation(len(self._samples))


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
    examples = [self._examples[i] for i in places]
    # Masks rest in memory in one byte a voxel and train as int32.
    dtypes = {'mask': np.int32}
    return {
      field: np.stack(
        [e[field] for e in examples],
        dtype=dtypes.get(field),
        casting='unsafe',
      )
      for field in examples[0]
    }


def train_batches(stream, *, local_batch_size, start_step, threads=4):
  """Iterates the batches of this process from `start_step` on (numpy)."""
  dataset = grain.MapDataset.source(_Batches(stream, local_batch_size))
  options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=4)
  return iter(dataset[start_step:].to_iter_dataset(options))


def to_device(batches, sharding, *, depth=2):
  """Puts batches on the mesh, `depth` of them ahead of the consumer."""
  queue = collections.deque()
  for batch in batches:
    queue.append(
      {
        k: jax.make_array_from_process_local_data(sharding, v)
        for k, v in batch.items()
      }
    )
    if len(queue) >= depth:
      yield queue.popleft()
  yield from queue
