"""The card of a run: every number with its source, and still true."""

import json
import shutil
import sys
import types

import numpy as np
import pytest

from medjax import files
from medjax.card import __main__ as command
from medjax.card import check, computed, facts, law, sections, write
from medjax.card.entries import NOT_STATED, Sources
from medjax.reports.gallery import save_cases

DICE = {'value': 0.8, 'interval': [0.7, 0.9], 'n': 3}


@pytest.fixture
def run(tmp_path):
  """A workdir as an evaluated segmentation leaves it."""
  folder = tmp_path / 'run'
  (folder / 'checkpoints' / '5').mkdir(parents=True)
  (folder / 'checkpoints' / '5' / 'weights').write_bytes(b'w')
  (folder / 'figures').mkdir()
  config = {
    'seed': 3,
    'model': {'name': 'UNet'},
    'task': {'name': 'Segmentation', 'monitor': 'dice'},
    'data': {'name': 'folder', 'seed': 0},
    'optimizer': {'name': 'adamw'},
  }
  files.write_json(folder / 'config.json', config, sealed=True)
  rows = [
    {'split': split, 'id': f'{split}{i}', 'patient': f'{split} Jane {i}',
     'dice/organ': 0.5 + i / 10}
    for split in ('validation', 'test') for i in range(3)
  ]  # fmt: skip
  files.write_csv(folder / 'per_case.csv', rows)
  split = {
    'n': 3,
    'patients': 3,
    'scores': {'dice': 0.8},
    'intervals': {'dice': [0.7, 0.9]},
    'classes': {'organ': {'dice': DICE}},
    'subgroups': {
      'groups': [
        {'attribute': 'sex', 'name': 'F', 'n': 2, 'verdict': 'too few',
         'scores': {'dice': DICE}}
      ]
    },
  }  # fmt: skip
  files.write_json(
    folder / 'metrics.json',
    {
      'run': {
        'steps': 5,
        'best_step': 5,
        'monitor': 'dice',
        'seconds': 61,
        'train_cases': 1609,
        'train_patients': 27,
      },
      'measures': {'dice': {'title': 'Dice', 'unit': '', 'higher': True}},
      'unit_of_length': 'mm',
      'validation': split,
      'test': split,
      'per_case_sha256': files.digest_of(folder / 'per_case.csv'),
    },
    sealed=True,
  )
  labels = np.eye(8, dtype=int)
  case = {'image': np.ones((8, 8)), 'mask': labels, 'prediction': labels}
  worst = {'id': 'Jane', 'caption': 'worst', 'spacing': np.ones(2), **case}
  save_cases(folder / 'figures' / 'cases.npz', [worst])
  return folder


def entries(workdir, given=None):
  found = sections.sections(Sources(workdir, given or {}))
  return {e.title: e for section in found for e in section.entries}


def test_what_is_true_of_classes_that_are_named_by_numbers():
  p = {'probability/1': 0.7, 'probability/2': 0.2, 'probability/3': 0.1}
  rows = [{'label': '1', **p}, {'label': '0', **p}]  # indices
  found = computed._true_probability(types.SimpleNamespace(rows=rows))
  np.testing.assert_array_equal(found, [0.2, 0.7])


def test_numbers_are_those_of_the_run_with_their_source(run):
  found = entries(run)
  dice = found['Test, Dice']
  assert (dice.text, dice.value) == ('0.800 (0.700 to 0.900)', 0.8)
  assert dice.source == 'metrics.json#/test/scores/dice'
  assert found['Patients in validation and in test'].value == 0
  assert found['sex F, dice'].value == 0.8
  assert found['Dice of the worst test cases'].value['values'] == [
    0.5,
    0.6,
    0.7,
  ]
  assert found['What it is for'].text == NOT_STATED
  with_facts = entries(run, {'intended_use': 'Research'})
  assert with_facts['What it is for'].text == 'Research'


def test_a_card_says_on_how_many_it_was_trained(run):
  found = entries_of_data(run)
  cases, patients = found['Train, cases'], found['Train, patients']
  assert (cases.text, patients.text) == ('1,609', '27')
  assert cases.source == 'metrics.json#/run/train_cases'
  metrics = files.read_json(run / 'metrics.json', mend='')
  del metrics['run']['train_cases'], metrics['run']['train_patients']
  files.write_json(run / 'metrics.json', metrics, sealed=True)
  assert entries_of_data(run)['Train, cases'].text == NOT_STATED  # of before
  assert entries_of_data(run)['Test, cases'].value == 3


def test_a_patient_of_two_splits_shows(run):
  rows = (run / 'per_case.csv').read_text().replace('test Jane 1', 'A')
  (run / 'per_case.csv').write_text(rows.replace('validation Jane 2', 'A'))
  assert entries_of_data(run)['Patients in validation and in test'].value == 1


def entries_of_data(workdir):
  section = sections._data(Sources(workdir, {}))
  return {e.title: e for e in section.entries}


def test_the_same_run_gives_the_same_bytes_and_no_name(run, tmp_path):
  for name in 'ab':
    write.write(run, tmp_path / name, {})
  for name in write.NAMES:
    text = (tmp_path / 'a' / name).read_bytes()
    assert text == (tmp_path / 'b' / name).read_bytes()
    assert b'Jane' not in text
    assert b'research use' in text
  page = (tmp_path / 'a' / 'card.html').read_text()
  assert 'http' not in page.replace('http://www.w3.org', '')
  assert 'data:image/png' in page


def test_check_finds_a_number_that_drifted(run, tmp_path):
  card = write.write(run, tmp_path / 'out', {'users': 'Me'})[0]
  assert check.check(run, card) == []
  tree = json.loads((run / 'metrics.json').read_text())
  del tree['sha256']
  tree['test']['scores']['dice'] = 0.81
  files.write_json(run / 'metrics.json', tree, sealed=True)
  (line,) = check.check(run, card)
  assert line.startswith('Performance: Test, Dice: the card says 0.8')
  (run / 'checkpoints' / '5' / 'weights').write_bytes(b'v')
  assert len(check.check(run, card)) == 2  # another model, too


def test_check_finds_an_interval_that_drifted(run, tmp_path):
  card = write.write(run, tmp_path / 'out', {})[0]
  tree = json.loads((run / 'metrics.json').read_text())
  del tree['sha256']
  tree['test']['intervals']['dice'] = [0.1, 0.99]
  files.write_json(run / 'metrics.json', tree, sealed=True)
  (line,) = check.check(run, card)
  assert line.startswith('Performance: Test, Dice, interval: the card says')
  source = 'metrics.json#/test/scores/dice, metrics.json#/test/intervals/dice'
  assert source in card.with_suffix('.md').read_text()
  assert source in card.with_suffix('.html').read_text()


def test_the_budget_that_was_spent_is_not_the_one_that_was_given(run):
  tree = {'epsilon': 8, 'delta': 1e-5, 'unit': 'patient', 'spent': None}
  files.write_json(run / 'privacy.json', tree)
  assert entries(run)['Privacy budget spent, ε'].text == NOT_STATED
  tree['spent'] = {'steps': 100, 'pld': 3.25, 'rdp': 3.5}
  files.write_json(run / 'privacy.json', tree)
  found = entries(run)
  assert found['Privacy budget, ε'].value == 8
  assert found['Privacy budget spent, ε'].value == 3.25


def test_one_digit_changed_by_hand_fails(run, tmp_path, monkeypatch, capsys):
  card = write.write(run, tmp_path / 'out', {})[0]
  text = (run / 'metrics.json').read_text()
  (run / 'metrics.json').write_text(text.replace('0.8', '0.9', 1))
  monkeypatch.setattr(sys, 'argv', ['card', 'check', str(run), str(card)])
  with pytest.raises(SystemExit, match='1'):
    command.main()
  assert 'damaged' in capsys.readouterr().out
  (tmp_path / 'card.json').write_text('{"sections": 3}')
  with pytest.raises(ValueError, match='no card of medjax'):
    check.check(run, tmp_path / 'card.json')


def test_the_law_table_shows_what_is_empty(run):
  found = sections.sections(Sources(run, {}))
  header, rows = law.table(found)
  where = {(row[0], row[1]): row[2] for row in rows}
  assert len(header) == 3
  assert where['AI Act, Annex IV 9', rows[16][1]] == 'Monitoring (empty)'
  assert where['FDA draft of 2025-01-07', 'Data management'] == 'Data'
  names = {section.name for section in found}
  for *_, mapped in (*law.ANNEX_IV, *law.FDA_DRAFT):
    assert set(mapped) <= names


def test_facts(tmp_path):
  path = tmp_path / 'facts.toml'
  path.write_text('intended_use = """\nTo  learn.\n"""\n', 'utf-8-sig')
  assert facts.read(path) == {'intended_use': 'To learn.'}
  for text, message in (
    ('intended_us = "x"', "did you mean 'intended_use'"),
    ('users = 3', 'users is not a text'),
    ('users = ', 'is not TOML'),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      facts.read(path)


def test_a_folder_that_is_no_run(tmp_path, run):
  with pytest.raises(FileNotFoundError, match='that was evaluated'):
    write.write(tmp_path, tmp_path / 'out', {})
  shutil.rmtree(run / 'checkpoints')
  write.write(run, tmp_path / 'out', {})  # what is left is said
