import json

import pytest

from medjax import config as config_lib
from medjax import untrusted


def make(**train):
  config = config_lib.default_config()
  config.model = dict(name='UNet', features=(4, 8))
  config.data.preprocess = (dict(name='resample', spacing=(1.0, 2.0)),)
  config.train.update(**train)
  return config


def test_what_is_stored_is_loaded(tmp_path):
  config_lib.store(make(steps=7), tmp_path)
  found = config_lib.load(tmp_path)
  assert found.train.steps == 7
  assert found.data.preprocess[0]['name'] == 'resample'
  assert config_lib.to_json(found) == config_lib.to_json(make(steps=7))
  assert [p.name for p in tmp_path.iterdir()] == ['config.json']


def test_the_same_config_is_the_same_after_json(tmp_path):
  config_lib.store(make(), tmp_path)
  config_lib.compare(make(), tmp_path)  # tuples have become lists
  moved = make()
  moved.data.data_dir = '/elsewhere'
  config_lib.compare(moved, tmp_path)


def test_the_fields_that_changed_are_named(tmp_path):
  config_lib.store(make(), tmp_path)
  other = make(steps=7)
  other.model.features = (4, 16)
  with pytest.raises(ValueError, match='take a new --workdir') as e:
    config_lib.compare(other, tmp_path)
  assert 'train.steps: 1000 → 7' in str(e.value)
  assert 'model.features: [4, 8] → [4, 16]' in str(e.value)
  config_lib.compare(other, tmp_path, ('data.preprocess', 'seed'))
  with pytest.raises(ValueError, match=r'model\.features'):
    config_lib.compare(other, tmp_path, ('model',))


def test_added_and_removed_fields_are_named_at_most_three(tmp_path):
  config_lib.store(make(), tmp_path)
  other = make(steps=1, log_every=2, eval_every=3, patience=4)
  other.model.norm = 'batch'
  with pytest.raises(ValueError, match=r"model\.norm: None → 'batch'.*; …"):
    config_lib.compare(other, tmp_path)


def test_no_run(tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no run'):
    config_lib.load(tmp_path)


@pytest.mark.parametrize('field', ['steps', 'log_every', 'eval_every'])
def test_counts_are_positive(field):
  config_lib.check(make())
  with pytest.raises(ValueError, match=f'train.{field} must be 1 or more'):
    config_lib.check(make(**{field: 0}))


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('optimizer.learning_rate', -1.0, 'must be 0 or more, not -1'),
    ('optimizer.learning_rate', float('nan'), 'must be 0 or more, not nan'),
    ('train.ema_decay', 2.0, 'must be 0 or more and below 1, not 2'),
    ('train.patience', -1, 'must be 0 or more, not -1'),
    ('train.steps', 1e3, 'must be a whole number, not 1000.0'),
    ('data.batch_size', 16.0, 'must be a whole number, not 16.0'),
    ('seed', -1, 'must be 0 or more, not -1'),
    ('folds', 3.0, 'must be a whole number, not 3.0'),
    ('inference.overlap', -1.0, 'must be 0 or more and below 1'),
    ('inference.overlap', 1.0, 'must be 0 or more and below 1'),
    ('data.foreground', 33.0, 'from 0 to 1, not 33'),
    ('data.cache_gb', -0.5, 'must be 0 or more'),
    ('data.patch_size', (0, 0), 'whole numbers of 1 or more, not 0'),
    ('data.patch_size', (8.5, 8), 'whole numbers of 1 or more, not 8.5'),
    ('data.preprocess', 'zscore', 'a tuple of one ends with a comma'),
    ('augment', 'flip', 'a tuple of one ends with a comma'),
    ('augment', ('flip',), "'flip' is no entry"),
  ],
)
def test_values_that_mean_nothing(field, value, message):
  config = make()
  *groups, last = field.split('.')
  part = config[groups[0]] if groups else config
  with config.ignore_type(), config.unlocked():
    part[last] = value
  with pytest.raises(ValueError, match=f'{field}.*{message}'):
    config_lib.check(config)


def test_a_stored_config_has_the_defaults_of_newer_fields(tmp_path):
  stored = json.loads(config_lib.to_json(make()))
  del stored['train']['patience'], stored['inference']
  (tmp_path / 'config.json').write_text(json.dumps(stored))
  found = config_lib.load(tmp_path)
  assert found.train.patience == 0
  assert found.inference.overlap == 0.5


@pytest.mark.parametrize('text', ['', '{', '[]', '"a"'])
def test_a_damaged_config_is_one_line(tmp_path, text):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(ValueError, match=r'config\.json.*another workdir') as e:
    config_lib.load(tmp_path)
  assert '\n' not in str(e.value)


def test_a_field_newer_than_the_run_has_its_default(tmp_path):
  old = make().to_dict()
  del old['members']
  (tmp_path / 'config.json').write_text(config_lib.to_json(old))
  config_lib.compare(make(), tmp_path)
  more = make()
  more.members = 2
  with pytest.raises(ValueError, match='members: 1 → 2'):
    config_lib.compare(more, tmp_path)


def test_one_run_is_itself(tmp_path):
  config = make()
  ((run, folder),) = config_lib.members(config, tmp_path)
  assert run is config
  assert folder == tmp_path


@pytest.mark.parametrize('again', [False, True])
def test_members_differ_in_the_seed_alone(tmp_path, again):
  config = make(together=True)
  config.seed, config.members = 5, 3
  if again:  # as prediction reads it
    config_lib.store(config, tmp_path)
    config = config_lib.load(tmp_path)
  runs = config_lib.members(config, tmp_path)
  assert [f.name for _, f in runs] == ['member0', 'member1', 'member2']
  for i, (run, _) in enumerate(runs):
    alone = make()
    alone.seed = 5 + i
    assert config_lib.to_json(run) == config_lib.to_json(alone)
  assert config.seed == 5


def test_every_fold_is_tested_once(tmp_path):
  config = make()
  config.folds = 4
  runs = config_lib.members(config, tmp_path)
  splits = [run.data.splits.to_dict() for run, _ in runs]
  assert [s['test'] for s in splits] == ['fold0', 'fold1', 'fold2', 'fold3']
  assert splits[3] == {
    'train': 'fold1+fold2', 'validation': 'fold0', 'test': 'fold3',
  }  # fmt: skip
  assert {run.seed for run, _ in runs} == {config.seed}
  assert runs[0][1] == tmp_path / 'fold0'


def test_what_is_none_can_still_be_set_by_a_flag(tmp_path):
  config = make()
  config.data.patch_size = None
  config_lib.store(config, tmp_path)
  for each in (config, config_lib.load(tmp_path)):
    assert each.data.patch_size is None
    types = [each.data.get_type(k) for k in ('patch_size', 'ignore')]
    assert types == [tuple, int]


@pytest.mark.parametrize('given', [{255: 1}, {0: 1, 255: 0}, ((255, 1),)])
def test_values_of_masks_by_a_dict_or_pairs(tmp_path, given):
  config = make()
  config.data.mask_values = given
  config = config_lib.complete(config)
  assert dict(config.data.mask_values) == dict(given)
  config_lib.store(config, tmp_path)
  config_lib.compare(config, tmp_path)


@pytest.mark.parametrize('given', [(0, 0), (2, 3), (1, 2), (1, -3)])
def test_members_and_folds_that_make_no_sense(tmp_path, given):
  config = make()
  config.members, config.folds = given
  with pytest.raises(ValueError, match=r'members of 1 or more|folds=2'):
    config_lib.members(config, tmp_path)


def test_texts_with_a_colon_that_are_no_code():
  config = make()
  config.data.update(name='folder', where='stage=T1:N0', path='D:/scans')
  config.data.fields.image = '{id}:t1.nii.gz'
  config.task = dict(
    name='Classification', class_names=('HP:1', 'a.b:c'), positive='HP:1'
  )
  config.optimizer.freeze = ('(?:stem|stage0)/',)
  config.train.writer = 'mine.log:Writer'
  assert not [*untrusted.foreign(config.to_dict())]
  config.data.preprocess = (dict(name='a', path='mine:f'),)
  assert [*untrusted.foreign(config.to_dict())] == ['mine:f']
