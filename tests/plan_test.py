import importlib.util
import json
import math
import pathlib
import sys

import jax
import numpy as np
import PIL.Image
import pytest

from medjax import engine, experiment, inspect, plan
from medjax.evaluate import evaluate
from medjax.survey import measure, plans
from medjax.survey.fingerprint import fingerprint
from medjax.survey.setup import make_setup
from medjax.survey.source import Source, open_source
from medjax.train import train

ROOT = pathlib.Path(__file__).resolve().parents[1]

# MSD Task05 as nnU-Net saw it, axes as in the file; see planner_test.py.
PROSTATE = {
  'source': {'title': 'msd/prostate', 'name': 'msd/prostate'},
  'splits': {f'fold{k}': 7 for k in range(5)},
  'stated': [],
  'divisible': 32,
  'cases': 32,
  'patients': 32,
  'rank': 3,
  'unit': 'mm',
  'channels': 2,
  'modality': ['T2', 'ADC'],
  'modality_guessed': False,
  'classes': ['background', 'PZ', 'TZ'],
  'labelled': False,
  'class_voxels': [10, 1, 1],
  'reoriented': False,
  'zero_background': True,
  'box_share': 1.0,
  'intensity': [
    {
      'mean': 350.2, 'std': 140.0, 'percentile_00_5': 83.0, 'median': 327.0,
      'percentile_99_5': 822.0,
    },
  ] * 2,
  'geometries': [
    {
      'shape': [319, 320, 20], 'box': [319, 320, 20],
      'spacing': [0.625, 0.625, 3.5999999046325684], 'cases': 32,
    },
  ],
}  # fmt: skip


def changed(**fields):
  return {**json.loads(json.dumps(PROSTATE)), **fields}


def geometry(shape, spacing, cases=32, box=None):
  return [
    {'shape': shape, 'box': box or shape, 'spacing': spacing, 'cases': cases}
  ]


def get_config(path):
  """What main makes of --config=configs/planned.py:PATH."""
  spec = importlib.util.spec_from_file_location(
    'planned', ROOT / 'configs/planned.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(str(path))


def config_of(setup, tmp_path):
  """The config that is written and loaded."""
  path = tmp_path / 'plan.json'
  path.unlink(missing_ok=True)
  plans.write(path, setup, title='a set', made_by='python -m medjax.plan x')
  return get_config(path)


def reasons(setup):
  return {name: f'{value} | {why}' for name, value, why in setup.table}


def names(entries):
  return [e['name'] for e in entries]


def test_an_anisotropic_set(tmp_path):
  setup = make_setup(PROSTATE)
  config = config_of(setup, tmp_path)
  assert config.data.patch_size == (256, 320, 20)
  assert config.data.batch_size == 2
  flat = (2, 2, 1)
  assert config.model.strides == (1, flat, flat, 2, 2, flat, flat)
  assert config.model.kernel_sizes == ((3, 3, 1), (3, 3, 1), 3, 3, 3, 3, 3)
  assert config.model.features == (32, 64, 128, 256, 320, 320, 320)
  zscore, resample = config.data.preprocess
  assert resample['order'] == 'linear'
  assert resample['spacing'] == (0.625, 0.625, 3.6)
  assert zscore == {'name': 'zscore'}
  affine = config.augment[0]
  assert (affine['rotate'], affine['axes']) == (180.0, (0, 1))
  assert config.data.splits.to_dict() == {
    'train': 'fold2+fold3+fold4', 'validation': 'fold1', 'test': 'fold0',
  }  # fmt: skip
  assert 'fit 8 GB' in reasons(setup)['patch']
  assert 'flat along axis 2' in reasons(setup)['rotation']


def test_a_residual_encoder(tmp_path):
  setup = make_setup(PROSTATE, preset='resenc_l')
  config = config_of(setup, tmp_path)
  assert config.model.name == 'ResEncUNet'
  assert config.model.blocks_per_stage == (1, 3, 4, 6, 6, 6, 6)
  small = config_of(make_setup(PROSTATE), tmp_path)
  assert config.data.batch_size > small.data.batch_size
  assert 'fit: 24 GB hold 2 examples of 2100 M' in reasons(setup)['batch']
  assert '1, 3, 4, 6, 6, 6, 6' in reasons(setup)['network']


def test_a_ct_set(tmp_path):
  # MSD Task09's published median spacing and shape, foreground intensities.
  spleen = changed(
    channels=1,
    modality=['CT'],
    zero_background=False,
    cases=41,
    patients=41,
    splits={'train': 29, 'validation': 6, 'test': 6},
    classes=['background', 'spleen'],
    intensity=[
      {
        'mean': 93.19259643554688, 'std': 40.78370666503906,
        'percentile_00_5': -42.0, 'median': 97.0, 'percentile_99_5': 176.0,
      }
    ],
    geometries=geometry(
      [512, 512, 187], [0.79296899, 0.79296899, 1.60001004], 41
    ),
  )  # fmt: skip
  setup = make_setup(spleen)
  config = config_of(setup, tmp_path)
  assert config.data.patch_size == (160, 192, 64)
  scale, resample = config.data.preprocess
  assert resample['order'] == 'cubic'
  assert scale == {
    'name': 'scale', 'low': -42.0, 'high': 176.0, 'mean': 93.1926,
    'std': 40.7837,
  }  # fmt: skip
  assert config.augment[0]['rotate'] == 30.0
  assert 'axes' not in config.augment[0]
  assert 'coarser network' in reasons(setup)['patch']
  assert 'CT: 0.5 and 99.5 %' in reasons(setup)['normalisation']
  assert config.data.splits.test == 'test'
  # As the published coarser network: the same voxels see more of the patient.
  low = make_setup(spleen, variant='low')
  spacing = low.config['data']['preprocess'][-1]['spacing']
  assert spacing == pytest.approx((1.390476, 1.390476, 2.72391), rel=1e-5)
  assert low.plan.patch == (192, 192, 64)
  assert 'coarser network' not in reasons(low)['patch']
  assert 'full, cascade, 2d' in reasons(low)['variants']
  with pytest.raises(ValueError, match='say which run'):
    make_setup(spleen, variant='cascade')
  told = make_setup(spleen, variant='cascade', previous='runs/low')
  first, *rest, last = config_of(told, tmp_path).data.preprocess
  assert first['name'] == 'medjax.prediction.cascade:find'
  assert first['run'] == 'runs/low'
  assert tuple(rest) == config.data.preprocess
  assert last == {'name': 'medjax.prediction.cascade:append'}
  assert 'low: 1.39' in reasons(setup)['variants']


def test_slices_of_volumes(tmp_path):
  setup = make_setup(PROSTATE, variant='2d')
  config = config_of(setup, tmp_path)
  assert config.data.patch_size == (320, 320, 1)
  assert config.data.batch_size == 32
  (stride,) = {*config.model.strides[1:]}
  assert stride == (2, 2, 1)
  assert {*config.model.kernel_sizes} == {(3, 3, 1)}
  assert config.model.features[-1] == 512
  resample = config.data.preprocess[-1]
  assert resample['spacing'] == (0.625, 0.625, None)
  assert resample['order'] == 'cubic'
  affine = config.augment[0]
  assert (affine['rotate'], affine['axes']) == (180.0, (0, 1))
  with pytest.raises(ValueError, match='no low resolution, and no cascade'):
    make_setup(PROSTATE, variant='low')


def test_what_is_mirrored_in_training_is_mirrored_at_test():
  setup = make_setup(PROSTATE)
  assert setup.config['inference']['flips']
  sided = changed(classes=['background', 'left kidney', 'right kidney'])
  assert not make_setup(sided).config['inference']['flips']


def test_the_path_of_a_plan_is_beside_it_or_absolute(tmp_path, monkeypatch):
  (tmp_path / 'plans').mkdir()
  (tmp_path / 'study').mkdir()
  path = tmp_path / 'plans' / 'plan.json'
  for given in ('../study', str(tmp_path / 'study')):
    plan = {'config': {'data': {'name': 'folder', 'path': given}}}
    path.write_text(json.dumps(plan))
    monkeypatch.chdir('/')
    found = pathlib.Path(plans.load(path).data.path)
    assert found.resolve() == tmp_path / 'study'


def test_ct_and_pet_are_normalised_apart(tmp_path):
  config = config_of(make_setup(changed(modality=['CT', 'PT'])), tmp_path)
  scale, zscore, _ = config.data.preprocess
  assert (scale['name'], scale['channels']) == ('scale', (0,))
  assert zscore == {'name': 'zscore', 'channels': (1,)}


def test_a_stated_normalisation_is_kept(tmp_path):
  one = dict(
    channels=1, modality=['noNorm'], intensity=PROSTATE['intensity'][1:]
  )
  setup = make_setup(changed(**one))
  first, _ = config_of(setup, tmp_path).data.preprocess
  assert first == {'name': 'normalise', 'schemes': ('none',)}
  assert reasons(setup)['normalisation'] == 'none | the data say so: noNorm'
  both = changed(modality=['rescale_to_0_1', 'CT'])
  first, scale, _ = config_of(make_setup(both), tmp_path).data.preprocess
  assert first['schemes'] == ('rescale_0_1', 'none')
  assert (scale['name'], scale['channels']) == ('scale', (1,))
  both = changed(modality=['MRI', 'rgb_to_0_1'])
  first, zscore, _ = config_of(make_setup(both), tmp_path).data.preprocess
  assert first['schemes'] == ('none', 'rgb_0_1')
  assert zscore == {'name': 'zscore', 'channels': (0,)}


def test_empty_surroundings_are_cropped_and_masked(tmp_path):
  shape, box = [240, 240, 155], [138, 169, 138]
  about = changed(
    box_share=0.36,
    reoriented=True,
    geometries=geometry(shape, [1.0, 1.0, 1.0], 484, box),
    cases=484,
  )
  config = config_of(make_setup(about), tmp_path)
  assert names(config.data.preprocess) == [
    'reorient', 'crop_foreground', 'zscore', 'resample',
  ]  # fmt: skip
  assert config.data.preprocess[-2]['nonzero']
  assert config.data.patch_size == (128, 128, 128)
  # Where 0 is a value like others nothing is cropped.
  about['zero_background'] = False
  config = config_of(make_setup(about), tmp_path)
  assert names(config.data.preprocess) == ['reorient', 'zscore', 'resample']


def test_names_of_labels_are_not_those_of_masks(tmp_path):
  about = changed(labelled=True, classes=['background', 'label 1'])
  config = config_of(make_setup(about), tmp_path)
  assert config.task.class_names == ('background', 'label 1')


def test_sides_are_not_mirrored(tmp_path):
  about = changed(classes=['background', 'kidney_left', 'kidney_right'])
  config = config_of(make_setup(about), tmp_path)
  assert 'flip' not in names(config.augment)
  config = config_of(make_setup(PROSTATE), tmp_path)
  assert config.augment[-1] == {'name': 'flip', 'p': 0.5}


@pytest.mark.parametrize(
  ('splits', 'expected'),
  [
    (('train', 'validation', 'test'), ('train', 'validation', 'test')),
    (('train', 'test'), ('train[15%:]', 'train[:15%]', 'test')),
    (('train',), ('train[30%:]', 'train[:15%]', 'train[15%:30%]')),
    (('train', 'validation'), ('train[15%:]', 'validation', 'train[:15%]')),
    (('fold0', 'fold1', 'fold2'), ('fold2', 'fold1', 'fold0')),
  ],
)
def test_splits(splits, expected):
  setup = make_setup(changed(splits=dict.fromkeys(splits, 20)))
  assert tuple(setup.config['data']['splits'].values()) == expected


def test_what_cannot_be_planned(tmp_path):
  with pytest.raises(ValueError, match=r'no masks.*configs/resnet\.py'):
    make_setup(changed(class_voxels=None))
  with pytest.raises(ValueError, match='masks label nothing'):
    make_setup(changed(intensity=None))
  with pytest.raises(ValueError, match='cut through patients'):
    make_setup(changed(splits={'train': 32}, patients=5))
  with pytest.raises(ValueError, match='--spacing needs 3 positive numbers'):
    make_setup(PROSTATE, spacing=(1.0, 1.0))
  if jax.default_backend() == 'cpu':
    with pytest.raises(ValueError, match='--memory=8'):
      plan.device_memory()


def run(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['plan', *map(str, arguments)])
  plan.main()


def test_the_command_line(tmp_path, capsys, monkeypatch):
  about, out = tmp_path / 'fingerprint.json', tmp_path / 'a/prostate.json'
  about.write_text(json.dumps(PROSTATE))
  run(monkeypatch, about, f'--out={out}', '--memory=24', '--debug')
  said = capsys.readouterr().out
  assert '256 × 320 × 20' not in said  # 24 GB hold more
  assert f'--config=configs/planned.py:{out} --workdir=runs/prostate' in said
  written = json.loads(out.read_text())
  # Every option, as it was given.
  assert written['made_by'] == (
    f'python -m medjax.plan {about} --out={out} --memory=24 --debug'
  )
  assert '24 GB hold' in written['reasons']['batch']['why']
  assert written['reasons']['batch']['value'] == str(
    written['config']['data']['batch_size']
  )
  assert not [*tmp_path.glob('**/*.py')]


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--out={tmp}/there.json'], 'is there already'),
    (['--out={tmp}/b.py'], 'a plan is a .json file'),
    (['--out={tmp}/b.json', '--memory=x'], 'needs numbers'),
    (['--out={tmp}/b.json', '--memory=0'], 'above 0'),
    (['--out={tmp}/b.json', '--memory=nan'], 'above 0'),
    (['--out={tmp}/b.json', '--minutes=-1'], 'above 0'),
    (['--out={tmp}/b.json', '--minutes=nan'], 'above 0'),
    (['--out={tmp}/b.json', '--spacing=1,1'], '--spacing needs 3 positive'),
  ],
)
def test_mistakes_get_one_line(
  tmp_path, capsys, monkeypatch, arguments, message
):
  about = tmp_path / 'fingerprint.json'
  about.write_text(json.dumps(PROSTATE))
  (tmp_path / 'there.json').write_text('{}')
  with pytest.raises(SystemExit, match='1'):
    run(monkeypatch, about, *(a.format(tmp=tmp_path) for a in arguments))
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert message in line


# Files of others.


@pytest.mark.parametrize(
  'fields',
  [
    {'source': {'title': 'x', 'name': 'x', 'preprocess': []}},
    {'source': {'title': 'x', 'name': 'x', 'mine': 1}},
    {'source': ['x']},
    {'source': {'name': 'x'}},
    {'cases': 'many'},
    {'cases': 10**9},
    {'geometries': [{}]},
    {'geometries': geometry([3, 3], [1.0, 1.0, 1.0])},
    {'geometries': geometry([3, 3, 3], [1.0, 0.0, 1.0])},
    {'geometries': geometry([3, 3, 3], [1.0, math.nan, 1.0])},
    {'geometries': geometry([3, 3, 3], [1.0, 1.0, 1.0], 10**12)},
    {'intensity': [{'mean': 'x'}] * 2},
    {'intensity': [None, None]},
    {'rank': 7},
    {'classes': [1, 2]},
    {'modality': ['T2']},
    {'divisible': None},
  ],
)
def test_a_damaged_fingerprint_gets_one_line(
  tmp_path, capsys, monkeypatch, fields
):
  path = tmp_path / 'fingerprint.json'
  path.write_text(json.dumps(changed(**fields)))
  with pytest.raises(SystemExit, match='1'):
    run(monkeypatch, path, f'--out={tmp_path}/plan.json')
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert 'fingerprint.json: not a fingerprint (' in line
  assert not (tmp_path / 'plan.json').exists()


@pytest.mark.parametrize('text', ['', '[]', '{', '{}', '"x"', '\x00'])
def test_what_is_no_fingerprint_or_plan(tmp_path, text):
  path = tmp_path / 'x.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'x\.json.*writes one'):
    plan.fingerprint.read(path)
  with pytest.raises(ValueError, match=r'x\.json.*writes one'):
    plans.load(path)
  with pytest.raises(FileNotFoundError, match='no such file'):
    plans.load(tmp_path / 'nowhere.json')


def test_text_of_a_fingerprint_becomes_no_code(tmp_path, monkeypatch):
  evil = '"""\nimport os; os.mkdir("owned")\n"""'
  about = changed(
    source={'title': evil, 'name': 'folder', 'path': evil},
    classes=['background', evil, 'b:c'],
    labelled=True,
  )
  path = tmp_path / 'fingerprint.json'
  path.write_text(json.dumps(about))
  monkeypatch.chdir(tmp_path)
  run(monkeypatch, path, '--out=plan.json')
  config = get_config('plan.json')
  assert config.task.class_names == ('background', evil, 'b:c')
  assert not (tmp_path / 'owned').exists()


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'task': {'name': 'subprocess:Popen'}}, "'subprocess:Popen', which is"),
    ({'task': {'loss': {'a.b:c': 1.0}}}, "'a.b:c', which is not"),
    ({'augment': [{'name': 'os:system'}]}, "'os:system', which is not"),
    ({'model': {'backbone': {'name': 'x:Y'}}}, "'x:Y', which is not"),
    ({'data': {'preprocess': [{'name': 'x:y'}]}}, "'x:y', which is not"),
    ({'data': {'name': '/tmp/mine.py/x'}}, 'a file with code'),
    ({'data': {'nmae': 'x'}}, "data.nmae; did you mean 'name'"),
    ({'modle': {}}, "modle; did you mean 'model'"),
    ({'train': {'steps': 'many'}}, 'plan.json: '),
    ({'data': {'patch_size': {}}}, 'plan.json: '),
    ({'data': 3}, 'plan.json: '),
    ({'seed': {'a': 1}}, 'plan.json: '),
    ([], 'not a plan'),
  ],
)
def test_a_hostile_plan_is_refused(tmp_path, fields, message):
  path = tmp_path / 'plan.json'
  path.write_text(json.dumps({'config': fields}))
  with pytest.raises(ValueError, match=r'plan\.json') as e:
    plans.load(path)
  assert message in str(e.value)
  assert '\n' not in str(e.value)


def test_names_of_medjax_are_taken(tmp_path):
  path = tmp_path / 'plan.json'
  fields = {'task': {'name': 'medjax.tasks:Segmentation', 'num_classes': 2}}
  path.write_text(json.dumps({'config': fields}))
  assert plans.load(path).task.num_classes == 2


def test_a_builder_file_is_named_on_the_command_line(
  tmp_path, capsys, monkeypatch
):
  about = changed(source={'title': 'mine', 'name': 'x/mine.py'})
  path = tmp_path / 'fingerprint.json'
  path.write_text(json.dumps(about))
  run(monkeypatch, path, f'--out={tmp_path}/plan.json')
  assert '--config.data.name=x/mine.py' in capsys.readouterr().out
  assert get_config(tmp_path / 'plan.json').data.name is None


# What is planned can be trained.


def test_what_main_would_refuse_is_not_planned(tmp_path, capsys, monkeypatch):
  """A copy of a training image in test: inspect tells, main refuses."""
  for k, split in enumerate(('train', 'validation', 'test')):
    write_pairs(tmp_path / split, [f'{10 * k + i}' for i in range(3)])
  copy = (tmp_path / 'train/images/0.png').read_bytes()
  (tmp_path / 'test/images/20.png').write_bytes(copy)
  with pytest.raises(SystemExit, match='1'):
    run(monkeypatch, tmp_path, f'--out={tmp_path}/plan.json')
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert 'are the same image' in line
  assert not (tmp_path / 'plan.json').exists()


def write_pairs(root, names):
  for part, top in (('images', 255), ('masks', 1)):
    (root / part).mkdir(parents=True)
    for name in names:
      rng = np.random.default_rng(int(name))
      values = rng.integers(0, top + 1, (8, 8)).astype(np.uint8)
      PIL.Image.fromarray(values).save(root / part / f'{name}.png')


def test_from_files_or_from_their_fingerprint(tmp_path, monkeypatch):
  write_pairs(tmp_path / 'data', [str(i) for i in range(9)])
  monkeypatch.chdir(tmp_path)
  source = open_source('data')
  inspect.inspect(source, 'seen')
  run(monkeypatch, './data', '--out=a.json')
  run(monkeypatch, 'seen/fingerprint.json', '--out=b.json')
  a, b = (json.loads(pathlib.Path(x).read_text()) for x in ('a.json', 'b.json'))
  assert a['config'] == b['config']
  assert a['reasons'] == b['reasons']
  # It is read from wherever it is used.
  assert pathlib.Path(a['config']['data']['path']).is_absolute()


@pytest.mark.parametrize(
  'sizes',
  [
    {'': 3}, {'': 4}, {'': 6}, {'': 30},
    {'train': 6, 'validation': 2}, {'train': 2, 'validation': 5},
    {'train': 12, 'test': 3}, {'train': 3, 'test': 1}, {'train': 9},
    {'train': 4, 'validation': 2, 'test': 2},
  ],
  ids=str,
)  # fmt: skip
def test_main_takes_the_splits_of_every_folder(tmp_path, sizes):
  for k, (split, n) in enumerate(sizes.items()):
    write_pairs(tmp_path / split, [f'{100 * k + i}' for i in range(n)])
  about = fingerprint(measure.survey(open_source(tmp_path)))
  made = experiment.make(config_of(make_setup(about), tmp_path))
  found = {
    split: {c['id'] for c in made.cases(split)} for split in experiment.SPLITS
  }
  assert all(found.values())
  assert sum(map(len, found.values())) == len(set.union(*found.values()))
  assert sum(map(len, found.values())) == sum(sizes.values())
  for split in ('validation', 'test'):  # what is stated stays
    if split in sizes:
      assert len(found[split]) == sizes[split]


@pytest.mark.parametrize(
  'sizes', [{'': 1}, {'': 2}, {'train': 1, 'validation': 3}], ids=str
)
def test_too_few_cases_are_not_planned(tmp_path, sizes):
  for k, (split, n) in enumerate(sizes.items()):
    write_pairs(tmp_path / split, [f'{100 * k + i}' for i in range(n)])
  about = fingerprint(measure.survey(open_source(tmp_path)))
  with pytest.raises(ValueError, match='too few to train, validate and test'):
    make_setup(about)


class Cases(list):
  """Raw cases as a data set gives them."""

  class_names = ()


def make_cases():
  rng = np.random.default_rng(0)
  cases = Cases()
  for i in range(4):
    shape = (9 + i, 10, 6)
    cases.append(
      {
        'id': str(i),
        'patient': str(i),
        'image': rng.normal(100, 10, (*shape, 1)).astype(np.float32),
        'mask': rng.integers(0, 3, shape).astype(np.uint8),
        'affine': np.diag([1.0, 1.0, 2.5, 1.0]),
        'spacing': np.array([1.0, 1.0, 2.5]),
      }
    )
  return cases


def test_the_config_trains(tmp_path, monkeypatch):
  """From cases to plan to two steps and an evaluation."""
  cases = make_cases()
  splits = dict.fromkeys(('train', 'validation', 'test'), cases)
  source = Source(name='set', splits=splits, config={'name': 'set'})
  about = fingerprint(measure.survey(source))
  config = config_of(make_setup(about), tmp_path)
  assert config.data.patch_size == (12, 10, 6)
  assert config.task.num_classes == 3
  stages = len(config.model.features)
  with config.unlocked():
    config.model.features = (2,) * stages
    config.data.batch_size = config.inference.batch_size = 2
    config.train.update(steps=2, log_every=1, eval_every=2)
  one = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  monkeypatch.setattr(engine, 'make_mesh', lambda devices=None: one)
  monkeypatch.setattr(experiment, 'open_cases', lambda config, parts: cases)
  made = experiment.make(config)
  train(made, tmp_path)
  results = evaluate(made, tmp_path)
  log = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  losses = [json.loads(line).get('train/loss', 0.0) for line in log]
  assert all(math.isfinite(loss) for loss in losses)
  assert results['test']['n'] == 4


def test_real_hippocampus_agrees_with_nnunet(shared_data, tmp_path):
  source = open_source(
    'msd/hippocampus',
    data_dir=tmp_path,
    manual_dir=shared_data('msd_hippocampus'),
  )
  about = fingerprint(measure.survey(source))
  assert about['cases'] == 260
  assert about['modality'] == ['MRI']
  # nnU-Net's published plan, axes reversed: 36, 50, 35 voxels at 1 mm.
  assert about['shape']['median'] == [35, 50, 36]
  assert about['spacing']['median'] == [1, 1, 1]
  # Its foreground intensities, from voxels drawn with replacement.
  (seen,) = about['intensity']
  assert seen['mean'] == pytest.approx(22360.326, rel=1e-3)
  assert seen['std'] == pytest.approx(60656.133, rel=1e-3)
  assert seen['percentile_00_5'] == 28.0
  assert seen['median'] == pytest.approx(362.8825, rel=1e-3)
  assert seen['percentile_99_5'] == pytest.approx(277682.03, rel=1e-3)
  # And its plan: 40 x 56 x 40, batch 9, 32-64-128-256.
  setup = make_setup(about)
  config = config_of(setup, tmp_path)
  assert config.data.patch_size == (40, 56, 40)
  assert config.data.batch_size == 9
  assert config.model.features == (32, 64, 128, 256)
  assert config.model.strides == (1, 2, 2, 2)
  assert config.model.kernel_sizes == (3, 3, 3, 3)
  _, zscore, resample = config.data.preprocess
  assert resample['spacing'] == (1.0, 1.0, 1.0)
  assert zscore == {'name': 'zscore'}
  # The same fields as the config written by hand.
  spec = importlib.util.spec_from_file_location(
    'unet', ROOT / 'configs/unet.py'
  )
  unet = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(unet)
  by_hand = unet.get_config('hippocampus')
  assert set(config) == set(by_hand)
  assert set(config.data) == set(by_hand.data)


def test_real_nodules_are_an_anisotropic_ct_set(shared_data, tmp_path):
  home = shared_data('lidc_nodules')
  files = sorted(p.name for p in (home / 'image').glob('*.nii.gz'))[::40]
  rows = [f'image/{f},nodule_mask/{f},{f[:14]}' for f in files]
  table = tmp_path / 'nodules.csv'
  table.write_text('\n'.join(['path,mask,patient', *rows]))
  source = open_source(home, options={'table': str(table)})
  about = fingerprint(measure.survey(source))
  setup = make_setup(about)
  config = config_of(setup, tmp_path)
  assert 'CT (guessed' in reasons(setup)['normalisation']
  assert 'scale' in names(config.data.preprocess)
  assert config.data.patch_size[:2] == (48, 48)
  assert config.data.patch_size[2] < 12
  assert config.model.strides[1] == (2, 2, 1)
  assert config.augment[0]['axes'] == (0, 1)
