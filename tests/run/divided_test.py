"""A run knows the cases that it has learnt from."""

import dataclasses
import functools
import json

import pytest

from medjax import experiment, files
from medjax.config import default_config
from medjax.run import divided


def write(path, n, names=('benign', 'malignant')):
  lines = ['who,grade,age']
  lines += [f'P{i:03},{names[i % 2]},{50 + i % 7}' for i in range(n)]
  path.write_text('\n'.join(lines))
  return path


def make(path, **fields):
  config = default_config()
  config.data.update(name='folder', path=str(path))
  config.data.fields.update(patient='who', label='grade', covariates='age')
  config.task = dict(name='Classification', inputs=('covariates',))
  config.model = dict(name='MLP', hidden=())
  config.update_from_flattened_dict(fields)
  return experiment.make(config)


@pytest.fixture
def run(tmp_path):
  """(table, workdir): of a hundred patients, of whom 24 more may come."""
  table, workdir = write(tmp_path / 'a.csv', 100), tmp_path / 'run'
  made = make(table)
  made.store(workdir)
  divided.store(made, workdir)
  return table, workdir


def test_cases_of_training_that_are_now_of_another_split(run):
  table, workdir = run
  restored = lambda: experiment.restore(workdir)
  divided.check(restored(), workdir)
  write(table, 124)
  with pytest.raises(
    ValueError, match=r'cases? of \w+ (is|are) now in .* --data'
  ):
    divided.check(restored(), workdir)
  (workdir / divided.FILE).write_text('[1]')
  with pytest.raises(ValueError, match='is damaged: delete it'):
    divided.check(restored(), workdir)
  (workdir / divided.FILE).unlink()  # of a run of before
  divided.check(restored(), workdir)


def test_of_a_run_of_before_the_table_says_whom_it_was_judged_by(run):
  _, workdir = run
  made = experiment.restore(workdir)
  (workdir / divided.FILE).unlink()
  known = [e.id for e in made.cases('test').entries]
  learnt = next(e.id for e in made.cases('train').entries)

  def judged(*names):
    lines = ['split,id', *(f'test,{name}' for name in names)]
    lines.append(f'validation,{learnt}')
    (workdir / 'per_case.csv').write_text('\n'.join(lines))

  judged(*known, 'gone')
  divided.check(made, workdir)
  judged(*known, learnt)
  with pytest.raises(ValueError, match='1 of its test cases are now in train'):
    divided.check(made, workdir)


def test_a_new_case_of_a_patient_counts_and_one_that_is_gone_does_not(run):
  _, workdir = run
  path = workdir / divided.FILE
  known = divided.read(workdir)
  tested = next(iter(known['test']))
  patient = known['test'][tested]
  known['test'] = {'gone': 'gone'}
  files.write_json(path, known, sealed=True)
  divided.check(experiment.restore(workdir), workdir)  # all of test are new
  known['train']['another'] = patient
  files.write_json(path, known, sealed=True)
  with pytest.raises(ValueError, match='1 case of train is now in test: the'):
    divided.check(experiment.restore(workdir), workdir)
  known['test'][tested] = patient  # as it was when the run was trained
  files.write_json(path, known, sealed=True)
  divided.check(experiment.restore(workdir), workdir)


def test_classes_of_another_name_have_another_number(run):
  table, workdir = run
  write(table, 100, names=('zbenign', 'malignant'))
  with pytest.raises(ValueError, match=r'benign, malignant, and .* zbenign'):
    divided.check(experiment.restore(workdir), workdir)


def test_a_training_does_not_go_on_with_other_numbers(run):
  table, workdir = run
  table.write_text(table.read_text().replace(',50', ',90'))
  divided.check(experiment.restore(workdir), workdir)  # by facts.json
  with pytest.raises(ValueError, match=r'covariate_statistics .* no longer'):
    divided.check(make(table), workdir)


def test_who_came_while_a_run_went_on_is_not_its_test_case(run):
  _, workdir = run
  known = divided.read(workdir)
  late, _ = known['train'].popitem()
  files.write_json(workdir / divided.FILE, known, sealed=True)
  made = experiment.restore(workdir)
  divided.extend(made, workdir)
  assert late in divided.read(workdir)['train']
  before = (workdir / divided.FILE).read_bytes()
  divided.extend(made, workdir)
  assert (workdir / divided.FILE).read_bytes() == before
  # Who was of the test and is learnt from is of the test no more.
  known['test'][late] = late
  files.write_json(workdir / divided.FILE, known, sealed=True)
  divided.extend(made, workdir)
  assert late not in divided.read(workdir)['test']


def test_of_the_first_volume_the_patch_counts(run):
  _, workdir = run
  made = experiment.restore(workdir)
  data = {**made.config['data'], 'patch_size': None}
  made = dataclasses.replace(made, config={**made.config, 'data': data})
  facts = functools.partial(dataclasses.replace, made.facts, channels=1, rank=3)
  old = dataclasses.asdict(facts(shape=(98, 98, 120)))
  files.write_json(workdir / 'facts.json', old)
  now = lambda *shape: dataclasses.replace(made, facts=facts(shape=shape))
  divided.check(now(98, 99, 133), workdir)
  with pytest.raises(ValueError, match='the size of patches of the training'):
    divided.check(now(98, 24, 133), workdir)


def test_names_are_as_everywhere_and_none_of_a_private_run(run, tmp_path):
  table, _ = run
  salt = tmp_path / 'salt'
  salt.write_text('a' * 32)
  made = make(table, **{'data.hash_ids': str(salt)})
  divided.store(made, tmp_path / 'hashed')
  text = (tmp_path / 'hashed' / divided.FILE).read_text()
  assert 'P0' not in text
  assert {e.id for e in made.cases('test').entries} == {
    *json.loads(text)['test']
  }
  divided.store(make(table, **{'privacy.epsilon': 1.0}), tmp_path / 'private')
  assert not (tmp_path / 'private' / divided.FILE).exists()
