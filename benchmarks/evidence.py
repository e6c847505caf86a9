"""The results table: trains each row, judges it, keeps what it is made of.

python benchmarks/evidence.py train hippocampus: the runs of a row (of all rows
  if none is named) in --runs [runs/evidence], one after the other. Again after
  a break it goes on where it was; runs that another machine kept it leaves out.
python benchmarks/evidence.py keep hippocampus: config, metrics and test cases
  of its runs go to benchmarks/evidence/; when all are there, the row does.
python benchmarks/evidence.py table: writes what is kept into the tables of
  benchmarks/RESULTS.md and README.md.
"""

import csv
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

import harness
import judges

from medjax.files import write_json

HERE = pathlib.Path(__file__).resolve().parent
CONFIGS = HERE.parent / 'configs' / 'benchmarks'
KEPT = judges.KEPT


@dataclasses.dataclass(frozen=True)
class Row:
  """A line of the table.

  runs: {name: config:variant and further options}; judge: {name: workdir} →
  what the row says; published: the value to hold it against, and its source.
  """

  title: str
  runs: dict[str, str]
  judge: Callable[[dict[str, pathlib.Path]], dict]
  published: str = ''


# --- the rows ----------------------------------------------------------------


def _runs(name, variants, config):
  """{name_variant: config, with the variant in it}."""
  return {f'{name}_{v}': config.format(v) for v in variants}


FOLDS = [f'fold{k}' for k in range(5)]
CHANGES = ('no_augmentation', 'deep_supervision', 'no_ema', 'bfloat16')
MORE_CHANGES = ('cross_entropy', 'wide', 'large_patch', 'sgd', 'residual')
_LONG = 'hippocampus.py:fold0,long'
MEDMNIST = {
  'pneumoniamnist': 'ResNet-18, 28 px: .944 AUC, .854 accuracy (MedMNIST v2)',
  'adrenalmnist3d': 'ResNet-18 + 3D: .827 AUC, .721 accuracy (MedMNIST v2)',
}
ROWS = {
  'hippocampus': Row(
    'MSD Hippocampus, 5 folds: 3 U-Nets 12-24-48-96, 3000 steps of 2 patches',
    _runs('hippocampus', FOLDS, 'hippocampus.py:{},ensemble'),
    judges.segmentation,
    'nnU-Net v2 (32-64-128-256, 1000 epochs): .8904 on these cases',
  ),
  **{
    f'{name}_{recipe}': Row(
      f'{name}, {recipe} recipe, ResNet-18 of ¼ width, 3 seeds',
      _runs(
        f'{name}_{recipe}',
        (0, 1, 2),
        f'medmnist.py:{name},{recipe} --config.seed={{}}',
      ),
      judges.seeds,
      published,
    )
    for name, published in MEDMNIST.items()
    for recipe in ('official', 'best')
  },
  'chase_db1': Row(
    'CHASE_DB1, first 20 / last 8, field of view: U-Net 16-32-64-128',
    {'chase_db1': 'chase_db1.py'},
    judges.fundus,
    'U-Net F1 .778, AUC .977; IterNet .807, .985; W-Net .820',
  ),
  'chase_db1_wnet': Row(
    'CHASE_DB1, the same: W-Net of 61 k parameters, 5000 steps at 512 x 512',
    {'chase_db1_wnet': 'vessels_wnet.py'},
    judges.fundus,
    'W-Net F1 .820',
  ),
  'nodules': Row(
    'LIDC-IDRI nodules, malignant or benign, 5 folds: small ResNet, 5 members',
    _runs('nodules', FOLDS, 'lidc_nodules.py:malignancy,{}'),
    judges.nodules,
    'the diameter alone: .920',
  ),
  'nodule_masks': Row(
    'LIDC-IDRI nodules, outlines, 5 folds: 3-D U-Net 12-24-48, 2000 steps',
    _runs('nodule_masks', FOLDS, 'lidc_nodules.py:mask,{}'),
    judges.segmentation,
    'pairs of readers .762, a reader and what half of them drew .869 '
    '(benchmarks/readers.py)',
  ),
  'ablation': Row(
    'Hippocampus at a small budget, fold 0: U-Net 8-16-32-64, 300 steps',
    {'ablation': 'hippocampus.py:fold0,small'},
    judges.segmentation,
  ),
  **{
    f'ablation_{change}': Row(
      f'… {change.replace("_", " ")}',
      {f'ablation_{change}': f'hippocampus.py:fold0,small-{change}'},
      judges.segmentation,
    )
    for change in CHANGES
  },
  'long': Row(
    'Hippocampus, fold 0: U-Net 8-16-32-64, 3000 steps, 3 seeds',
    _runs('long', (0, 1, 2), f'{_LONG} --config.seed={{}}'),
    judges.over_seeds,
  ),
  **{
    f'long_{change}': Row(
      f'… {change.replace("_", " ")}',
      _runs(
        f'long_{change}', (0, 1, 2), f'{_LONG}-{change} --config.seed={{}}'
      ),
      judges.over_seeds,
    )
    for change in (*CHANGES, *MORE_CHANGES)
  },
}


# --- training, keeping, the table --------------------------------------------


def _where(name, row, folder):
  """{run: its workdir, or what is kept of it; None} of a row.

  Of a row that is kept whole what is kept does not count: it is trained anew.
  """
  whole = (KEPT / f'{name}.json').exists()
  found = {}
  for run in row.runs:
    trained = (folder / run / 'report.html').exists()
    kept = None if whole or not (KEPT / run).exists() else KEPT / run
    found[run] = folder / run if trained else kept
  return found


def train(name, row, folder):
  """Trains the runs of a row that are done neither here nor elsewhere."""
  for run, done in _where(name, row, folder).items():
    if done:
      continue
    config, *rest = row.runs[run].split()
    command = [sys.executable, '-m', 'medjax.main', f'--workdir={folder / run}']
    subprocess.run(
      [*command, f'--config={CONFIGS / config}', *rest], check=True
    )


def keep(name, row, folder):
  """Copies what a row rests on from its workdirs; judges it if all is there."""
  places = _where(name, row, folder)
  for run, place in places.items():
    if place == folder / run:
      _keep_run(name, place, KEPT / run)
  absent = [run for run, place in places.items() if place is None]
  if absent:
    print(f'{name}: {len(absent)} of {len(places)} runs are still to train')
    return
  said = row.judge(places)
  runs = [json.loads((KEPT / r / 'metrics.json').read_text()) for r in places]
  said['hours'] = sum(m['run']['seconds'] for m in runs) / 3600
  said['device'] = runs[-1]['run']['device']
  write_json(KEPT / f'{name}.json', said)


def _keep_run(name, workdir, kept):
  """Config, metrics and test cases of a run."""
  kept.mkdir(parents=True, exist_ok=True)
  shutil.copy(workdir / 'config.json', kept)
  metrics = json.loads((workdir / 'metrics.json').read_text())
  # The command as another machine would give it.
  metrics['run']['command'] = f'python benchmarks/evidence.py train {name}'
  for split in ('validation', 'test'):
    metrics[split].pop('curves', None)
  for seal in ('sha256', 'per_case_sha256'):  # of what is not kept
    metrics.pop(seal, None)
  write_json(kept / 'metrics.json', metrics)
  _keep_cases(workdir / 'per_case.csv', kept / 'per_case.csv')


def _keep_cases(source, target):
  """The test cases, numbers to six digits."""
  with source.open() as f, target.open('w', newline='') as out:
    reader = csv.DictReader(f)
    writer = csv.DictWriter(out, reader.fieldnames, lineterminator='\n')
    writer.writeheader()
    for row in reader:
      if row['split'] == 'test':
        writer.writerow({k: _short(v) for k, v in row.items()})


def _short(text):
  try:
    return f'{float(text):.6g}' if '.' in text else text
  except ValueError:
    return text


def table(brief):
  """The kept rows as a Markdown table.

  brief: only those that were run, without the ablations at a small budget.
  """
  header = (
    'row',
    'what',
    'n',
    'score (95 % interval)',
    'also',
    'published',
    'h',
  )
  lines = []
  for name, row in ROWS.items():
    if brief and name.startswith(('ablation', 'long')):
      continue
    cells = [f'`{name}`', row.title, '', 'not run', '', row.published, '']
    if (kept := KEPT / f'{name}.json').exists():
      said = json.loads(kept.read_text())
      span = judges.span(said['interval'])
      if 'each' in said:
        span = f'seeds: {span}'
      score = f'{said["score"]} **{judges.number(said["value"], 4)}** ({span})'
      cells[2:5] = str(said['n']), score, said['text']
      cells[6] = f'{said["hours"]:.2f}'
    elif brief:
      continue
    lines.append(cells)
  lines = [header, ['---'] * len(header), *lines]
  chosen = (1, 3, 4, 5) if brief else range(len(header))
  return ''.join(f'| {" | ".join(r[k] for k in chosen)} |\n' for r in lines)


def main():
  """Command line entry point."""
  what, names, folder = harness.asked(
    __doc__, ROWS, what='row', runs='runs/evidence'
  )
  for name in names:
    if what == 'train':
      train(name, ROWS[name], folder)
    elif what == 'keep':
      keep(name, ROWS[name], folder)
  if what == 'table':
    harness.put_table(HERE / 'RESULTS.md', table(brief=False))
    harness.put_table(HERE.parent / 'README.md', table(brief=True))


if __name__ == '__main__':
  main()
