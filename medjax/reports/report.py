"""report.html of a workdir: one page of its scores, figures, cases and config.

Reads only the files of the workdir, so that a report can be written again at
any time, also of a run that has not ended. What is missing is left out and
said.
"""

import datetime
import pathlib

import numpy as np

from medjax import files
from medjax.reports import attacked, doubt, figures, inputs, page, tables
from medjax.reports import workdir as workdir_lib
from medjax.reports.text import number

_BOXES = 3  # measures whose spread over the cases is drawn
_EACH = 3  # measures written below a case


def write_report(workdir) -> pathlib.Path:
  """Writes report.html and figures/*.png of a workdir; returns its path.

  Test results stand first, those of validation beside them. Raises
  FileNotFoundError when the folder holds nothing of a run, ValueError of one
  line for a file in it that is damaged.
  """
  run = workdir_lib.read(workdir)
  kind = [run.config.get(k, {}).get('name') for k in ('model', 'data', 'task')]
  text = page.render(
    'report.html.jinja',
    title=run.folder.resolve().name,
    kind=' · '.join(str(k) for k in kind if k),
    written=datetime.datetime.now().strftime('%Y-%m-%d %H:%M'),
    notes=run.notes,
    split=run.split,
    splits=[(split, s.get('n')) for split, s in run.summaries.items()],
    cards=tables.score_cards(run),
    scores=tables.score_rows(run),
    intervals=any(map(tables.has_intervals, run.summaries.values())),
    few=tables.few_patients(run),
    repeated=tables.repeated(run),
    conditions=tables.survival_conditions(run),
    decided=f'{tables.positive_class(run)} {tables.calibration(run)}'.strip(),
    doubts=doubt.warnings(run),
    sets=doubt.set_table(run),
    words=[
      *doubt.bounds(run),
      *filter(None, (doubt.operating_point(run), doubt.novelty(run))),
    ],
    inputs=inputs.table(run),
    input_words=inputs.words(run),
    attack=_attack(run.folder),
    groups=doubt.group_table(run),
    group_words=doubt.group_words(run),
    members=tables.member_table(run),
    uncertainty=tables.uncertainty(run),
    worst=tables.worst_cases(run) if run.rows else None,
    classes=[(s, *tables.class_table(run, s)) for s in run.summaries],
    decisions=tables.decision_table(run),
    by_case=bool(run.by_case),
    command=run.facts.get('command'),
    facts=tables.fact_rows(run),
    config=tables.config_rows(run.config),
    **_pictures(run),
  )
  path = run.folder / 'report.html'
  files.write_text(path, text)
  return path


def _attack(folder):
  """(table, sentences) of an attack on who was trained on; None without."""
  found = files.read_json(folder / 'attack.json', mend='attack it again')
  return found and (attacked.table(found), attacked.words(found))


def _pictures(run):
  """The figures of the page, by where they stand on it."""
  pictures = page.Pictures(run.folder / 'figures', old='case_*.png')
  with figures.style():
    return {
      'curves': pictures(
        'learning_curves',
        figures.learning_curves(
          run.log, run.monitor, run.facts.get('best_step'), run.measures
        ),
        'Loss, validation score and learning rate by training step',
      ),
      'plots': _plots(run, pictures),
      'survival': _survival(run, pictures),
      'boxes': pictures(
        'boxes',
        figures.boxes(run.rows, run.by_case[:_BOXES], run.measures),
        'Distribution over cases of each class',
        'One point per case in which the measure is defined; box: quartiles '
        'and median; whiskers: the furthest point within 1.5 box lengths.',
      ),
      'cases': _cases(run, pictures),
    }


def _plots(run, pictures):
  """How probabilities rank, how true they are, what is decided."""
  summary = run.summary
  ece = summary.get('scores', {}).get('ece')
  found = (
    pictures(
      'discrimination',
      figures.discrimination(summary, run.measures),
      'ROC and precision-recall curves',
    ),
    pictures(
      'reliability',
      figures.reliability(summary),
      'Reliability diagram',
      f'{run.measures.plain_title("ece")}: {number(ece)}',
    ),
    pictures(
      'confusion',
      figures.confusion(summary),
      'Confusion matrix',
      'Confusion matrix: cases, and their share of the reference class.',
    ),
    pictures(
      'risk_coverage',
      figures.risk_coverage(summary),
      'Error of the answered cases by the share that is answered',
    ),
  )
  return [picture for picture in found if picture]


def _survival(run, pictures):
  """Curves of survival, and how true they are; [] of other tasks."""
  found = run.summary.get('survival')
  if not found:
    return []
  drawn = figures.survival
  pairs = (
    ('survival_thirds', drawn.thirds(found), 'Survival by third of risk',
     'Kaplan–Meier of the cases with 95 % interval; dashed: the mean of what '
     'was predicted of them.'),
    ('survival_incidence', drawn.incidence(found), 'Cumulative incidence',
     'Where risks compete, 1 − Kaplan–Meier of one cause would overstate it.'),
    ('survival_calibration', drawn.horizons(found), 'Calibration at horizons',
     'Groups of equal size by predicted risk; O/E: observed over expected of '
     'all cases.'),
    ('survival_brier', drawn.brier(found), 'Brier score over time',
     'Dotted: of the same curve for everybody.'),
    ('survival_cases', drawn.cases(found), 'Survival curves of single cases',
     ''),
  )  # fmt: skip
  made = [
    pictures(name, figure, alt, words) for name, figure, alt, words in pairs
  ]
  return [picture for picture in made if picture]


def _cases(run, pictures):
  """A figure for each case with masks, and one of all other images."""
  found = []
  rows = {row['id']: row for row in run.rows}
  masked = [c for c in run.cases if 'mask' in c and 'prediction' in c]
  for i, case in enumerate(masked):
    heading, each = _words(run, case, rows.get(case['id']))
    figure = figures.segmentation_case(case, run.label_names, heading)
    found.append(pictures(f'case_{i + 1:02d}', figure, heading, each))
  rest = [c for c in run.cases if 'mask' not in c or 'prediction' not in c]
  if rest:
    names = list(run.summary.get('classes', {}))
    alt = 'Images of cases, and what is known and predicted of each'
    figure = figures.image_grid(rest, names)
    found.append(pictures('case_images', figure, alt))
  return found


def _words(run, case, row):
  """Heading of a case with its first measure, and the measures by class."""
  heading, lines = [case.get('caption', '').capitalize(), case['id']], []
  measures = run.by_case[:_EACH] if row is not None else ()
  for measure in measures:
    classes = {
      k: float(v[0])
      for k, v in run.column(measure, [row]).items()
      if np.isfinite(v[0])
    }
    if not classes:
      continue
    title = run.measures.title(measure)
    if measure == measures[0]:
      heading.append(f'{title} {number(np.mean([*classes.values()]))}')
    if measure != measures[0] or len(classes) > 1:
      each = ', '.join(f'{k} {number(v)}'.strip() for k, v in classes.items())
      lines.append(f'{title}: {each}')
  return ' · '.join(filter(None, heading)), '; '.join(lines)
