"""Trained workdirs as models of the service: what identifies them, and what
validation said about them.
"""

import pathlib
import tempfile
import time

import numpy as np
import sqlalchemy as sa
from pydicom.sr._concepts_dict import concepts

from medjax import files
from medjax.explain import neighbours
from medjax.prediction import novelty, trained
from medjax.run import identity, per_case
from medjax.service import abstain, audit, insight, rules, tables, uids

_BINS = 10
_MIN_FOR_QUANTILES = 40
_STRUCTURE = ('91723000', 'SCT', 'Anatomical Structure')
_FINDING = ('121071', 'DCM', 'Finding')
# Context groups of PS3.16 whose codes are structures of the body.
_ANATOMY = frozenset(
  (4, 4030, 4031, 7140, 7151, 7152, 7153, 7154, 7155, 7156, 7157, 7158, 7160,
   7166, 7192, 7193)
)  # fmt: skip
# What a model is beside its checkpoints.
_FILES = (
  'config.json', 'facts.json', 'calibration.json', abstain.NAME, novelty.FILE
)  # fmt: skip


def digest(workdir):
  """64 digits of all that a model's answers depend on."""
  workdir = pathlib.Path(workdir)
  rule = files.digest_of(workdir / abstain.NAME)
  known = files.digest_of(workdir / novelty.FILE)
  more = [] if known is None else [str(known)]
  return uids.digest(identity.digest(workdir), str(rule), *more)


def stamp(workdir):
  """Sizes and times of the files of a model: alike, it was not changed."""
  workdir = pathlib.Path(workdir)
  found = [workdir / name for name in _FILES]
  found += sorted(p for p in workdir.rglob('checkpoints/**/*') if p.is_file())
  stats = [p.stat() for p in found if p.exists()]
  return uids.digest(
    *(f'{s.st_size} {s.st_mtime_ns} {s.st_ino}' for s in stats)
  )


def install(
  store,
  workdir,
  *,
  when,
  study_when='',
  name='',
  normal='',
  codes=None,
  by_rule='',
  facts='',
  who='',
):
  """Adds the row of a model, or renews it; returns that row's name.

  when: the rule of the series that it is for. study_when: a rule of studies
  that must have such a series. normal: of exclusive classes the one that is no
  finding, or 'none'. codes: {class: (value, scheme, meaning)}.
  by_rule: 'CLASS=SET', of `insight.rules_of`. facts: a file of what the run
  cannot know, for its card.
  Raises ValueError or OSError for what is no evaluated run.
  """
  workdir = pathlib.Path(workdir).resolve()
  if not rules.parse(when):
    raise ValueError('--when names no series: say Modality=MR, for example')
  rules.parse(study_when)
  known = _facts(workdir, normal, codes or {}, by_rule)
  known['card'] = _card(store, workdir, facts)
  name = name or workdir.name
  values = dict(
    workdir=str(workdir),
    digest=digest(workdir),
    when=when,
    study_when=study_when,
    facts=known,
    active=True,
    created=time.time(),
  )
  with store.write() as c:
    t = tables.models
    there = c.scalar(sa.select(t.c.id).where(t.c.name == name))
    twin = c.scalar(
      sa.select(t.c.name).where(
        t.c.digest == values['digest'], t.c.name != name, t.c.active
      )
    )
    if twin is not None:  # their results would have the same UIDs
      raise ValueError(f'{workdir} is installed already, as {twin}')
    if there is None:
      c.execute(t.insert().values(name=name, **values))
    else:
      c.execute(t.update().where(t.c.id == there).values(**values))
    audit.add(c, who, 'model', model=values['digest'], outcome=name)
  return name


def stated(facts):
  """What a file of facts says for a card; raises ValueError or OSError."""
  from medjax.card import facts as facts_lib

  return facts_lib.read(facts or None)


def _card(store, workdir, facts):
  """Keeps the card of a run; returns its digest, '' where there is none."""
  from medjax.card import write as card  # not for processes that serve

  with tempfile.TemporaryDirectory() as folder:
    try:
      paths = card.write(workdir, folder, stated(facts))
    except FileNotFoundError:  # it was not evaluated
      return ''
    page = next(p for p in paths if p.suffix == '.html')
    return store.keep(page.read_bytes())


def codes_of(store, name):
  """Lines on how the classes of a model are coded, or which is no finding."""
  with store.read() as c:
    t = tables.models
    facts = c.scalar(sa.select(t.c.facts).where(t.c.name == name))
  return [
    f'{n}: no finding'
    if n == facts['normal']
    else f'{n}: {meaning} ({value}, {scheme})'
    for n, (value, scheme, meaning) in facts['codes'].items()
  ]


def _facts(workdir, normal, codes, by_rule):
  """What the page and the reports say of a model, JSON-able."""
  run = trained.load(workdir)
  made, calibration = run.experiment, run.calibration
  task, names = made.task, ()
  dense = 'mask' in task.fields
  if dense:
    names = task.label_names[1:]
  elif hasattr(task, 'multi_label'):
    names = task.names
  else:
    raise ValueError(
      f'{workdir} holds a {type(task).__name__}: the service takes '
      'segmentations and classifications'
    )
  if odd := set(codes) - set(names):
    raise ValueError(
      f'--codes has {sorted(odd)[0]!r}, but the classes are {", ".join(names)}'
    )
  rows = _validation(workdir)
  return {
    'dense': dense,
    'exclusive': bool(task.exclusive),
    'rank': made.facts.rank,
    'names': list(names),
    'normal': _normal(task, dense, normal, names),
    # Which class the threshold of two is of.
    'positive': None if dense else task.positive_class,
    'codes': {n: list(codes.get(n) or code_of(n, dense)) for n in names},
    'model': str(made.config['model'].get('name')),
    'config': made.digest,
    'run': identity.digest(workdir),
    'thresholds': list(calibration.thresholds or ()),
    'validation': (
      _volumes(rows, names) if dense else _reliability(rows, task, calibration)
    ),
    'abstention': abstain.read(workdir),
    'novelty': novelty.kept(workdir, run.provenance.steps) is not None,
    'nearest': files.digest_of(workdir / neighbours.STORED),
    'rules': insight.rules_of(
      by_rule, names, volumes=dense and made.facts.rank == 3
    ),
  }


def _normal(task, dense, normal, names):
  """The class that is no finding; '' where every class is one."""
  if dense or not task.exclusive:
    return ''
  if normal == 'none':
    return ''
  if normal:
    if normal not in names:
      raise ValueError(f'--normal={normal}: the classes are {", ".join(names)}')
    return normal
  if task.binary and task.positive is not None:  # the config has named it
    return names[1 - task.positive]
  raise ValueError(
    f'which of {", ".join(names)} is no finding? say --normal=CLASS, or '
    '--normal=none'
  )


def code_of(name, dense):
  """(value, scheme, meaning) of a class.

  Of a structure whose name is one of SNOMED CT in the standard's groups of
  anatomy; else a general one, which says nothing that is not known.
  """
  if not dense:
    return _FINDING
  wanted = ''.join(filter(str.isalnum, name)).casefold()
  for keyword, found in concepts['SCT'].items():
    if keyword.casefold() == wanted:
      for value, (meaning, groups) in found.items():
        if _ANATOMY.intersection(groups):
          return value, 'SCT', meaning
  return _STRUCTURE


def _validation(workdir):
  """Rows of the validation split; [] where the run was not evaluated."""
  path = workdir / 'per_case.csv'
  if not path.exists():
    return []
  rows, _ = files.read_csv(path, mend='evaluate again')
  return [r for r in rows if r.get('split') == 'validation']


def _numbers(rows, column):
  values = [r.get(column) or 'nan' for r in rows]
  found = np.array([float(v) for v in values])
  return found[np.isfinite(found)]


def _volumes(rows, names):
  """Of each class, how its Dice and volume went on validation.

  The true volume is the predicted one divided by 1 + the relative error; of
  that factor the 2.5 % and 97.5 % quantiles, or the extremes of few cases.
  """
  found = {}
  for name in names:
    dice = _numbers(rows, f'dice/{name}')
    errors = _numbers(rows, f'volume_error/{name}')
    factor = 1 / (1 + errors[errors > -1])  # where something was found
    if not len(dice) or not len(factor):
      continue
    few = len(factor) < _MIN_FOR_QUANTILES
    found[name] = {
      'n': len(dice),
      'dice': [float(q) for q in np.quantile(dice, (0.5, 0.05, 0.95))],
      'volume': [
        float(q) for q in np.quantile(factor, (0, 1) if few else (0.025, 0.975))
      ],
      'few': few,
    }
  return found


def _reliability(rows, task, calibration):
  """Of each class, how often it was there, by its calibrated probability.

  {class: [[n, times it was there], …]} of bins of equal width.
  """
  if not rows:
    return {}
  p = np.array(
    [[float(r[f'probability/{n}']) for n in task.names] for r in rows]
  )
  if calibration.temperature is not None:
    p = np.stack([task.calibrated(row, calibration) for row in p])
  found = {}
  for k, name in enumerate(task.names):
    there = np.array([_is_there(r, task.names, k) for r in rows])
    at = np.minimum((p[:, k] * _BINS).astype(int), _BINS - 1)
    found[name] = [
      [int((at == b).sum()), int(there[at == b].sum())] for b in range(_BINS)
    ]
  return found


def _is_there(row, names, k):
  """Whether a case has class k, by a row of per_case.csv."""
  if f'label/{names[k]}' in row:
    return float(row[f'label/{names[k]}']) > 0
  return per_case.class_of(row['label'], names) == k
