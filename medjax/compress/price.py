"""What a version of a run costs, and what it is worth: the table."""

import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

from medjax import cli
from medjax.compress import exported
from medjax.evaluate import evaluate_cases
from medjax.metrics import paired
from medjax.prediction.samples import samples

THREADS = (1, 2)


def rows_of(folder, experiment, split):
  """Metrics of each case of a split, predicted by the files of a folder."""
  predictor = exported.Predictor(folder, experiment.task)
  return evaluate_cases(predictor, experiment.task, samples(experiment, split))


def score(task, rows):
  """The score that chose the checkpoint; NaN where it is not defined."""
  found = task.summarize(rows, n_resamples=0)['scores'][task.monitor]
  return float('nan') if found is None else float(found)


def difference(task, before, after):
  """(difference of the score, its 95 % interval by patient), paired."""
  if not hasattr(task, 'monitored'):
    return score(task, after) - score(task, before), (float('nan'),) * 2
  scores = (task.monitored(rows, None) for rows in (before, after))
  groups = [row['patient'] for row in before]
  return paired.score_difference(*scores, groups)


def speed(folder, inputs):
  """{threads: p50, p95, peak} of one input, each in a process of its own."""
  found = {}
  with tempfile.TemporaryDirectory() as home:
    kept = pathlib.Path(home) / 'inputs.npz'
    np.savez(kept, **inputs)
    for threads in THREADS:
      model = pathlib.Path(folder) / 'model.onnx'
      program = [sys.executable, '-m', 'medjax.compress.clock']
      done = subprocess.run(
        [*program, str(model), str(kept), str(threads)],
        capture_output=True,
        text=True,
      )
      if done.returncode:
        raise ValueError(
          f'{folder}: model.onnx does not run: {done.stderr.strip()[-200:]}'
        )
      found[threads] = json.loads(done.stdout.splitlines()[-1])
  return found


def row(name, folder, task, rows, inputs, before=None):
  """A row of the table: a version's name, its score, size and times."""
  summary = task.summarize(rows)
  bounds = (summary.get('intervals') or {}).get(task.monitor)
  change = difference(task, before, rows) if before else None
  return {
    'version': name,
    'score': task.monitor,
    'value': summary['scores'][task.monitor],
    'interval': bounds,
    'change': change and change[0],
    'change_interval': change and change[1],
    'ece': summary['scores'].get('ece'),
    'mb': exported.size(folder),
    'speed': speed(folder, inputs),
  }


def factor(before, after):
  """How many times faster the second row is, on one thread."""
  first, second = (row['speed'][THREADS[0]]['p50'] for row in (before, after))
  return first / second


def text(rows):
  """The table, a line for each version; it says so of one that is slower."""
  header = ['version', rows[0]['score'], 'change (95 % interval)', 'ECE', 'MB']
  for threads in THREADS:
    header.append(f'ms p50/p95, {threads} thread{"s" * (threads > 1)}')
  header += ['× faster', 'peak MB']
  lines = []
  for each in rows:
    change = '–'
    if each['change'] is not None and not np.isnan(each['change']):
      low, high = each['change_interval']
      change = f'{each["change"]:+.4f}'
      if not np.isnan(low):  # as where a version answers as the original does
        change += f' ({low:+.4f} to {high:+.4f})'
    ece = '–' if each['ece'] is None else f'{each["ece"]:.3f}'
    # Of a test split of one class there is none.
    value = '–' if each['value'] is None else f'{each["value"]:.4f}'
    line = [each['version'], value, change, ece]
    line.append(f'{each["mb"]:.2f}')
    for threads in THREADS:
      s = each['speed'][threads]
      line.append(f'{s["p50"]:.2f}/{s["p95"]:.2f}')
    peak = each['speed'][THREADS[-1]]['peak_mb']
    line += [
      f'{factor(rows[0], each):.2f}',
      '–' if peak is None else f'{peak:.0f}',
    ]
    lines.append(line)
  table = cli.aligned(header, lines, 'l' + 'r' * (len(header) - 1))
  slow = [x['version'] for x in rows[1:] if factor(rows[0], x) < 1]
  notes = [f'note: {name} is smaller, but slower here' for name in slow]
  return '\n'.join([table, *notes])
