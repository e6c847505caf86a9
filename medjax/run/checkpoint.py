"""Orbax checkpoints of a run: the newest and the best, written aside.

The data stream needs no state of its own: batch k is a pure function of the
seed and k, so `state.step` says where it was.
"""

import concurrent.futures
import contextlib
import hashlib
import json
import math
import pathlib
import shutil
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from medjax import terminal
from medjax.run import damage

_GLOBBED = '[]*?'  # Orbax looks for its files by patterns


def _score(metrics):
  return metrics['score']


def _digest(value):
  """Of an array, or of what JSON can say; '' for what lies elsewhere too."""
  if isinstance(value, jax.Array):
    if not value.is_fully_replicated and not value.is_fully_addressable:
      return ''
    value = np.asarray(value)
  if isinstance(value, np.ndarray | np.generic):
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
  else:
    data = json.dumps(value).encode()
  return hashlib.blake2b(data, digest_size=8).hexdigest()


def _digests(tree, prefix):
  """{path: digest} of the leaves of a tree."""
  leaves = {
    f'{prefix}/{jax.tree_util.keystr(path, simple=True, separator="/")}': leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }
  # Training waits for them, and hashing leaves the interpreter to others.
  with concurrent.futures.ThreadPoolExecutor() as threads:
    digests = threads.map(_digest, leaves.values())
    return dict(zip(leaves, digests, strict=True))


def _check(found, saved):
  """Raises ValueError for an array that is not the one that was saved."""
  for path, digest in found.items():
    if saved.get(path, '') not in ('', digest) or path not in saved:
      raise ValueError(f'{path} is not as it was saved')


def _kinds(tree):
  """{path: (shape, dtype)} of arrays, or of what is known of them."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      tuple(x.shape),
      str(x.dtype),
    )
    for path, x in jax.tree_util.tree_leaves_with_path(tree)
  }


class Checkpointer:
  """Saves and restores TrainStates of one workdir.

  A checkpoint becomes visible only when it is whole (Orbax writes under a
  temporary name and renames), and an older one is deleted only after that.
  """

  def __init__(self, workdir, *, read_only=False):
    # The newest, the one before it in case that is damaged, and the best; a
    # save without a score never counts as best.
    keep = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(2),
        preservation_policy.BestN(
          get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
        ),
      ]
    )
    folder = pathlib.Path(workdir).absolute() / 'checkpoints'
    if odd := [c for c in _GLOBBED if c in str(folder)]:
      raise ValueError(
        f'{workdir}: {odd[0]!r} in its path would hide checkpoints from Orbax: '
        'take a --workdir without it'
      )
    if any('\ud800' <= c <= '\udfff' for c in str(folder)):
      raise ValueError(
        f'{workdir}: its path is no UTF-8, which checkpoints need: take a '
        '--workdir of plain letters, or a locale of UTF-8 (LC_ALL=C.UTF-8)'
      )
    self._read_only = read_only
    if not read_only:
      folder.mkdir(parents=True, exist_ok=True)
      damage.put_aside(folder, damage.without_score(folder))
    # Orbax warns that what is only read is only read.
    with terminal.quiet() if read_only else contextlib.nullcontext():
      self._manager = ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=keep,
          best_fn=_score,  # or Orbax does not write the scores down
          read_only=read_only,
          lightweight_initialize=read_only,  # or it stops at a damaged score
          enable_async_checkpointing=not read_only,
          # Made in the background, a folder that cannot be made leaves threads
          # that wait ten minutes for it, and the program with them.
          async_options=ocp.options.AsyncOptions(
            create_directories_asynchronously=False
          ),
        ),
        # Reads parts of a state; what it writes is the same as the default's.
        item_handlers={
          'state': ocp.PyTreeCheckpointHandler(),
          'train_metrics': ocp.PyTreeCheckpointHandler(),
          'history': ocp.JsonCheckpointHandler(),
          'digests': ocp.JsonCheckpointHandler(),
        },
      )

  def save(self, state, metrics, history):
    """Starts writing a checkpoint of `state` under its step.

    `metrics` are the train metrics since they were last logged, so that a
    resumed run logs what an unbroken one does; `history` is
    [[step, score], …], newest last.
    """
    step = int(state.step)
    if step in self._manager.all_steps():
      return
    self._check_room(state)
    score = history[-1][1] if history and history[-1][0] == step else None
    if score is None or math.isnan(score):
      score = -math.inf
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeSave(state),
        train_metrics=ocp.args.PyTreeSave(metrics),
        history=ocp.args.JsonSave(history),
        digests=ocp.args.JsonSave(
          {
            **_digests(state, 'state'),
            **_digests(metrics, 'train_metrics'),
            'history': _digest(history),
          }
        ),
      ),
      metrics={'score': score},
      force=True,
    )

  def _check_room(self, state):
    """Raises OSError on a full disk, of which Orbax's threads say a lot."""
    needed = sum(x.nbytes for x in jax.tree.leaves(state)) + 2**20
    free = shutil.disk_usage(self._manager.directory).free
    if free < needed:
      raise OSError(
        f'{self._manager.directory}: no room for a checkpoint of '
        f'{needed / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free'
      )

  def latest_step(self):
    """Step of the newest whole checkpoint, or None."""
    return self._manager.latest_step()

  def best_step(self):
    """Step of the checkpoint with the best score; the newest if none has."""
    steps = self._by_score()
    return steps[0] if steps else None

  def _by_score(self):
    """All steps, the best first; of those without a score the newest."""

    def rank(step):
      try:
        return self._manager.metrics(step)['score'], step
      except (ValueError, OSError, KeyError, TypeError) as e:
        damage.check(e, self._path(step))
        if self._path(step).exists():  # and was not just replaced
          print(
            f'medjax: {self._path(step)} is damaged: it has no score',
            file=sys.stderr,
          )
        return -math.inf, step

    ranks = map(rank, self._manager.all_steps())
    return [step for _, step in sorted(ranks, reverse=True)]

  def restore_newest(self, state, metrics):
    """(state, metrics, history) of the newest whole step, or None of none.

    Shapes and shardings are as given: `state` and `metrics` are templates,
    such as a fresh run has. Newer steps, which are damaged, are put aside.
    Raises ValueError where none is whole, or one cannot be read now.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    if not steps:
      return None
    whole, found = self._first_whole(
      steps, lambda step: self._restore(step, state, metrics), state
    )
    damaged = [step for step in steps if step > whole]
    if damaged and not self._read_only:  # They will be written again.
      damage.put_aside(self._manager.directory, damaged)
      self._manager.reload()
    return found

  def variables(self, which='best'):
    """(step, variables of a forward pass) of a whole checkpoint.

    `which` is 'best', 'last' or a step; where the best or the last is
    damaged, the next. numpy arrays, no template needed. Averaged parameters
    stand for the parameters where the run kept them. The optimizer's part of
    the file is not read. Raises FileNotFoundError where there is no
    checkpoint, ValueError for a step that was not kept.
    """
    steps = self._by_score()
    if steps and which != 'best':
      steps = sorted(steps, reverse=True)
    if steps and which not in ('best', 'last'):
      if which not in map(str, steps) and which not in steps:
        kept = ', '.join(map(str, sorted(steps)))
        raise ValueError(
          f'{self._manager.directory} holds no step {which}, only {kept}: say '
          'best, last or one of these'
        )
      steps = [int(which)]
    if not steps:
      raise FileNotFoundError(
        f'{self._manager.directory} holds no whole checkpoint'
      )
    return self._first_whole(steps, self._restore_variables)

  def _first_whole(self, steps, read, state=None):
    """(step, what `read` gives of it) of the first that is not damaged.

    `state` is the template of what is read, of the shapes that it must have.
    """
    damaged = {}
    for step in steps:
      try:
        found = read(step)
      except Exception as e:  # Orbax has many for a damaged file
        damage.check(e, self._path(step))
        damaged[step] = damage.first_line(e)
        continue
      for other, reason in damaged.items():
        print(
          f'medjax: {self._path(other)} is damaged ({reason}): {step} is taken',
          file=sys.stderr,
        )
      return step, found
    reason = damaged[steps[0]]
    if state is not None and self._is_of_another(steps[0], state):
      raise ValueError(
        f'{self._path(steps[0])} is of another model than this run has now '
        f'({reason}): the config or the data are others than they were; take '
        'those, or another --workdir'
      )
    raise ValueError(
      f'{self._manager.directory}: no checkpoint is whole ({reason}); take '
      'another copy of it, or another --workdir'
    )

  def _path(self, step):
    return self._manager.directory / str(step)

  def _is_of_another(self, step, state):
    """Whether what a step says that it holds is not like a template."""
    try:
      saved = self._manager.item_metadata(step).state
      return _kinds(saved) != _kinds(state)
    except Exception:  # damaged
      return False

  def _restore(self, step, state, metrics):
    def like(template):
      return ocp.args.PyTreeRestore(
        template,
        restore_args=ocp.checkpoint_utils.construct_restore_args(template),
      )

    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=like(state),
        train_metrics=like(metrics),
        history=ocp.args.JsonRestore(),
        **self._digests_of(step),
      ),
    )
    found = restored.state, restored.train_metrics, restored.history
    if 'digests' in restored:
      _check(
        {
          **_digests(found[0], 'state'),
          **_digests(found[1], 'train_metrics'),
          'history': _digest(found[2]),
        },
        restored.digests,
      )
    return found

  def _digests_of(self, step):
    """What asks for the digests of a step; {} of one from before there were."""
    known = (self._path(step) / 'digests').exists()
    return {'digests': ocp.args.JsonRestore()} if known else {}

  def _restore_variables(self, step):
    saved = self._manager.item_metadata(step).state
    wanted = 'ema' if saved['ema'] is not None else 'params'
    part = {wanted: saved[wanted], 'variables': saved['variables']}
    as_numpy = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), part
    )
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.PyTreeRestore(
          part, restore_args=as_numpy, partial_restore=True
        ),
        **self._digests_of(step),
      ),
    )
    state = restored.state
    if 'digests' in restored:
      _check(_digests(state, 'state'), restored.digests)
    return {'params': state[wanted], **state['variables']}

  def wait(self):
    """Returns when the last save is whole on disk; raises if it failed."""
    self._manager.wait_until_finished()

  def close(self):
    """Waits for the last save and lets go of the threads."""
    self._manager.close()

  def __enter__(self):
    return self

  def __exit__(self, *exception):
    self.close()


def variables(workdir, which='best'):
  """(step, variables for a forward pass) of a checkpoint of a run.

  `which` is 'best', 'last' or a step. Raises FileNotFoundError where there is
  no checkpoint, ValueError for a step that was not kept.
  """
  parts = [
    p.parent.name
    for kind in ('member', 'fold')
    for p in sorted(pathlib.Path(workdir).glob(f'{kind}[0-9]*/checkpoints'))
  ]
  if parts and not (pathlib.Path(workdir) / 'checkpoints').is_dir():
    raise ValueError(
      f'{workdir} holds {len(parts)} runs, {parts[0]} and so on: say which, '
      f'{workdir}/{parts[0]}'
    )
  with Checkpointer(workdir, read_only=True) as checkpoints:
    return checkpoints.variables(which)


def best_variables(workdir):
  """(step, variables for a forward pass) of a run's best whole checkpoint."""
  return variables(workdir)
