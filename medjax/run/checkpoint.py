"""Orbax checkpoints of a run: the newest and the best, written aside.

The data stream needs no state of its own: batch k is a pure function of the
seed and k, so `state.step` says where it was.
"""

import math
import pathlib
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy


def _score(metrics):
  return metrics['score']


class Checkpointer:
  """Saves and restores TrainStates of one workdir.

  A checkpoint becomes visible only when it is whole (Orbax writes under a
  temporary name and renames), and an older one is deleted only after that.
  """

  def __init__(self, workdir, *, read_only=False):
    # Newest and best are kept; a save without a score never counts as best.
    keep = preservation_policy.AnyPreservationPolicy(
      [
        preservation_policy.LatestN(1),
        preservation_policy.BestN(
          get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False
        ),
      ]
    )
    folder = pathlib.Path(workdir).absolute() / 'checkpoints'
    if not read_only:
      folder.mkdir(parents=True, exist_ok=True)
    self._manager = ocp.CheckpointManager(
      folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=keep,
        best_fn=_score,  # or Orbax does not write the scores down
        read_only=read_only,
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
    scored = [
      (self._manager.metrics(step)['score'], step)
      for step in self._manager.all_steps()
    ]
    scored = [pair for pair in scored if pair[0] > -math.inf]
    return max(scored)[1] if scored else self.latest_step()

  def restore(self, step, state, metrics):
    """(state, metrics, history) of `step`, with shapes and shardings as given.

    `state` and `metrics` are templates, such as a fresh run has.
    """

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
      ),
    )
    return restored.state, restored.train_metrics, restored.history

  def restore_variables(self, step):
    """Reads the variables of a forward pass at `step`, numpy, no template.

    Averaged parameters stand for the parameters where the run kept them. The
    optimizer's part of the file is not read.
    """
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
        )
      ),
    ).state
    return {'params': restored[wanted], **restored['variables']}

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


def best_variables(workdir):
  """(step, variables for a forward pass) of a run's best checkpoint.

  Raises FileNotFoundError where there is none.
  """
  checkpoints = Checkpointer(workdir, read_only=True)
  step = checkpoints.best_step()
  if step is None:
    raise FileNotFoundError(f'{workdir}/checkpoints holds no whole checkpoint')
  variables = checkpoints.restore_variables(step)
  checkpoints.close()
  return step, variables
