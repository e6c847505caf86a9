"""The training cases that a model's embedding puts nearest to a case."""

import pathlib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from medjax import files

STORED = 'embeddings_train.npz'


def embed(run, samples, *, batch=32):
  """Embeddings (n, d) float32 of prepared samples, of the first member.

  Samples of one shape share a batch. Raises ValueError for a model that has no
  embedding.
  """
  model, variables = run.model, run.variables[0]

  @jax.jit
  def pooled(variables, inputs):
    found = model.apply(variables, *inputs, train=False, features=True)
    return found['pooled']

  rows, waiting = [], []

  def flush():
    if not waiting:
      return
    padded = waiting + [waiting[-1]] * (batch - len(waiting))
    inputs = [jnp.asarray(np.stack(x)) for x in zip(*padded, strict=True)]
    try:
      rows.extend(np.asarray(pooled(variables, inputs))[: len(waiting)])
    except (KeyError, TypeError) as e:
      raise ValueError(
        f'{type(model).__name__} gives no embedding (features=True with '
        "'pooled'), so there are no nearest cases"
      ) from e
    waiting.clear()

  for sample in samples:
    inputs = [np.asarray(sample[n], np.float32) for n in run.task.inputs]
    if waiting and (
      len(waiting) == batch or inputs[0].shape != waiting[0][0].shape
    ):
      flush()
    waiting.append(inputs)
  flush()
  return np.stack(rows)


def _key(run):
  """Which checkpoint embeddings are of."""
  return f'{run.provenance.digest}-{run.provenance.steps}'


def kept(run, workdir):
  """What `stored` wrote into a workdir; None of another checkpoint, or none."""
  path = pathlib.Path(workdir) / STORED
  try:
    with np.load(path, allow_pickle=False) as f:
      if str(f['key']) == _key(run):
        return f['embeddings'], f['ids'], f['labels']
  except (OSError, ValueError, KeyError, zipfile.BadZipFile):
    pass  # a damaged one is made again
  return None


def stored(run, workdir, *, batch=32, watch=lambda: None):
  """(embeddings (n, d), ids, labels) of the training cases, kept in `workdir`.

  Computed again where the checkpoint is another one. Labels are names of
  classes, '' of a case without any.
  """
  if (found := kept(run, workdir)) is not None:
    return found
  cases = run.experiment.cases('train')
  ids, labels = [], []

  def samples():
    for i in range(len(cases)):
      case = cases[i]
      ids.append(str(case['id']))
      labels.append(_label(run.task, case))
      yield run.experiment.preprocess(case)
      watch()

  embeddings = embed(run, samples(), batch=batch)
  ids, labels = np.array(ids), np.array(labels)
  with files.replacing(pathlib.Path(workdir) / STORED, 'wb') as f:
    np.savez_compressed(
      f, key=np.array(_key(run)), embeddings=embeddings, ids=ids, labels=labels
    )
  return embeddings, ids, labels


def _label(task, case):
  """The label of a case as words."""
  if case.get('label') is None:
    return ''
  label = np.asarray(case['label'])  # -1: it is not known
  if np.ndim(label) == 0:
    return str(task.names[int(label)])
  return ', '.join(task.names[k] for k in np.flatnonzero(label > 0)) or 'none'
