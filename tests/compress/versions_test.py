"""The three ways, from a workdir to the table."""

import dataclasses
import importlib.util
import json
import shutil

import jax
import numpy as np
import pytest
from drawn_runs import CLASSES, MASKS, RESNET, UNET
from PIL import Image

from medjax import config, experiment
from medjax.compress import exported, halves, price, quantise, versions
from medjax.export import artefact, golden
from medjax.prediction import trained
from medjax.tasks import DistilledClassification

pytest.importorskip('onnxruntime')
onnx = pytest.importorskip('onnx')
SCALE = (dict(name='scale', mean=127.5, std=127.5),)


@pytest.fixture
def pictures(tmp_path):
  """A folder of 40 pictures in two classes: dark and bright."""
  rng = np.random.default_rng(0)
  for i in range(40):
    kind = ('bright', 'dark')[i % 2]
    level = 150 if kind == 'bright' else 110
    array = rng.normal(level, 30, (12, 12)).clip(0, 255).astype(np.uint8)
    path = tmp_path / 'pictures' / kind / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
  return tmp_path / 'pictures'


def test_a_writer_of_the_run_is_not_called(tmp_path):
  given = config.default_config()
  given.train.writer = 'mine.log:Writer'
  config.store(given, tmp_path)
  assert versions._restored(tmp_path).train.writer == ''


@pytest.fixture
def workdir(pictures, make_run):
  """A run on the pictures."""
  run = make_run(
    RESNET | {'width': 8},
    CLASSES | {'class_names': ('bright', 'dark')},
    SCALE,
    (12, 12, 1),
    class_names=('bright', 'dark'),
  )
  whole = config.load(run)
  whole.data.path = str(pictures)
  whole.train.update(steps=4, eval_every=2, log_every=1)
  whole.data.batch_size = 8
  config.store(whole, run)
  return run


@pytest.fixture(autouse=True)
def quick(monkeypatch):
  """Times are not judged here."""
  spent = dict(p50=1.0, p95=2.0, least=0.9, peak_mb=None)
  monkeypatch.setattr(
    price, 'speed', lambda folder, inputs: {t: spent for t in price.THREADS}
  )


def test_eight_bits(workdir, tmp_path, capsys):
  rows = versions.compress(workdir, 'int8', tmp_path / 'out')
  assert [row['version'] for row in rows] == ['original', 'int8']
  low, high = rows[1]['change_interval']
  assert low <= rows[1]['change'] <= high
  printed = capsys.readouterr().out
  assert all(f'{m}: validation auroc' in printed for m in quantise.METHODS)
  assert 'int8' in price.text(rows)
  kept = onnx.load(tmp_path / 'out' / artefact.ONNX).graph.initializer
  kernels = [x for x in kept if len(x.dims) == 4 and np.prod(x.dims) > 1]
  assert len(kernels) == 6
  assert {x.data_type for x in kernels} == {onnx.TensorProto.INT8}
  # Seven bits: two products with bytes fit sixteen, on any CPU.
  most = [int(abs(onnx.numpy_helper.to_array(x)).max()) for x in kernels]
  assert max(most) == 64
  # It is used as any exported run is; weights of four bytes are not in it.
  info = json.loads((tmp_path / 'out/model.json').read_text())
  assert info['quantised']['bits'] == 8
  assert not (tmp_path / 'out' / artefact.WEIGHTS).exists()
  run = trained.load(workdir)
  made, predictor = (
    run.experiment,
    exported.Predictor(tmp_path / 'out', run.task),
  )
  sample = made.prepare(made.cases('test')[0])
  ((_, found),) = predictor([sample])
  wanted = run.predict_case(made.cases('test')[0]).probabilities
  assert 0 < np.abs(found.prediction - wanted).max() < 0.1


def test_halves_are_half_the_file_and_nearly_the_run(workdir, tmp_path, capsys):
  rows = versions.compress(workdir, 'float16', tmp_path / 'out')
  assert 0.5 < rows[1]['mb'] / rows[0]['mb'] < 0.75  # the rest are nodes
  assert 'largest error on 3 golden cases' in capsys.readouterr().out
  weights = onnx.load(tmp_path / 'out' / artefact.ONNX).graph.initializer
  large = [x for x in weights if np.prod(x.dims) >= 1024]
  assert {x.data_type for x in large} == {onnx.TensorProto.FLOAT16}
  assert 0 < golden.compare(tmp_path / 'out', 'onnx')['prediction'] < 1e-2


def test_a_weight_that_halves_cannot_hold_stays():
  kept = [
    onnx.numpy_helper.from_array(np.full(1024, value, np.float32), name)
    for name, value in (('small', 1.5), ('large', 1e5))
  ]
  graph = onnx.helper.make_graph([], 'graph', [], [], kept)
  graph = halves.halved(onnx.helper.make_model(graph)).graph
  small, large = map(onnx.numpy_helper.to_array, graph.initializer)
  assert (small.dtype, large.dtype) == (np.float16, np.float32)
  assert (small[0], large[0]) == (1.5, 1e5)
  assert [node.op_type for node in graph.node] == ['Cast']


def test_all_heavy_operators_of_a_resnet_have_eight_bits(workdir, tmp_path):
  run = trained.load(workdir)
  artefact.write(run, tmp_path / 'whole', onnx=True, programs=False)
  made = trained.load(workdir).experiment
  _, left = quantise.quantise(
    tmp_path / 'whole', tmp_path / 'out', made.cases('train'), lambda _: 0.0
  )
  assert left == {}


def test_half_of_the_channels(workdir, tmp_path):
  rows = versions.compress(workdir, 'prune:.5', tmp_path / 'out', steps=2)
  assert rows[1]['version'] == 'prune:.5'
  stored = config.load(tmp_path / 'out')
  assert stored.model.width == 4
  assert stored.train.steps == 2
  assert (tmp_path / 'out' / 'report.html').exists()
  count = lambda run: sum(
    x.size for x in artefact.weights.flat(trained.load(run).variables).values()
  )
  assert count(tmp_path / 'out') < 0.4 * count(workdir)


def student_file(tmp_path, more=''):
  """A config of a small network that says nothing of the data."""
  file = tmp_path / 'student.py'
  file.write_text(
    'from medjax.config import default_config\n'
    'def get_config():\n'
    '  config = default_config()\n'
    f'  config.data.preprocess = {SCALE!r}\n'
    '  config.data.batch_size = 8\n'
    "  config.model = dict(name='ResNet18', width=4, stem='small',"
    ' stage_sizes=(1,))\n'
    "  config.task = dict(name='Classification')\n"
    '  config.train.update(steps=2, eval_every=2, log_every=1)\n'
    f'{more}'
    '  return config\n'
  )
  return file


def test_a_student(workdir, tmp_path):
  file = student_file(tmp_path)
  rows = versions.compress(workdir, f'student:{file}', tmp_path / 'out')
  assert rows[1]['version'] == f'student:{file}'
  run = trained.load(tmp_path / 'out')
  assert isinstance(run.task, DistilledClassification)
  # The student predicts when the teacher is gone.
  workdir.rename(tmp_path / 'gone')
  made = run.experiment
  again = trained.load(tmp_path / 'out')
  assert again.predict_case(made.cases('test')[0]).values.keys() == {
    'bright', 'dark',
  }  # fmt: skip
  file.write_text(file.read_text().replace('127.5', '120.0'))
  with pytest.raises(ValueError, match='prepares images otherwise'):
    versions.compress(tmp_path / 'gone', f'student:{file}', tmp_path / 'out2')


def test_a_builder_of_others_is_not_run(workdir, tmp_path):
  whole = config.load(workdir)
  (tmp_path / 'mine.py').write_text(f"open('{tmp_path}/ran', 'w')")
  whole.data.name = str(tmp_path / 'mine.py')
  config.store(whole, workdir)
  file = student_file(tmp_path)
  with pytest.raises(ValueError, match=r'outside of medjax.*--trust'):
    versions.compress(workdir, f'student:{file}', tmp_path / 'out')
  assert not (tmp_path / 'ran').exists()
  assert not (tmp_path / 'out').exists()


def test_a_student_has_the_cases_and_the_classes_of_its_teacher(
  pictures, make_run, tmp_path, monkeypatch
):
  names = ('dark', 'bright')  # folders are read in the order of the alphabet
  run = make_run(
    RESNET, CLASSES | {'class_names': names}, SCALE, (12, 12, 1),
    class_names=names,
  )  # fmt: skip
  whole = config.load(run)
  whole.data.path = str(pictures)
  whole.seed, whole.data.seed = 1, None
  config.store(whole, run)
  made = []
  monkeypatch.setattr(versions, '_trained', lambda one, out: made.append(one))
  file, out = student_file(tmp_path), tmp_path / 'out'
  versions._student(trained.load(run), run, str(file), out, None)
  assert made[0].task.names == names
  told = lambda one, split: [(c['id'], c['label']) for c in one.cases(split)]
  for split in experiment.SPLITS:
    assert told(made[0], split) == told(trained.load(run).experiment, split)


def test_a_student_of_a_private_run_has_a_budget(
  workdir, tmp_path, monkeypatch
):
  whole = config.load(workdir)
  whole.privacy.epsilon = 3.0
  config.store(whole, workdir)
  made = []
  monkeypatch.setattr(versions, '_trained', lambda one, out: made.append(one))
  run, out = trained.load(workdir), tmp_path / 'out'
  file = student_file(tmp_path)
  with pytest.raises(ValueError, match='is private, and its student learns'):
    versions._student(run, workdir, str(file), out, None)
  file = student_file(tmp_path, '  config.privacy.epsilon = 2.0\n')
  versions._student(run, workdir, str(file), out, None)
  assert made[0].privacy.epsilon == 2


def test_what_was_made_of_other_weights_is_not_gone_on_with(workdir, tmp_path):
  run, out = trained.load(workdir), tmp_path / 'out'
  versions._claim(out, run, workdir)
  versions._claim(out, trained.load(workdir), workdir)
  run.variables = jax.tree.map(lambda x: 2 * x, run.variables)
  with pytest.raises(ValueError, match=r'out was made of other weights than'):
    versions._claim(out, run, workdir)
  # The command asks before it trains, and before it takes what is there.
  said = json.loads((out / versions.SOURCE).read_text())
  (out / versions.SOURCE).write_text(json.dumps(said | {'weights': 'others'}))
  for to in ('prune:.5', f'student:{student_file(tmp_path)}'):
    with pytest.raises(ValueError, match='other weights'):
      versions.compress(workdir, to, out, steps=1)
  assert [path.name for path in out.iterdir()] == [versions.SOURCE]
  with pytest.raises(ValueError, match='is not empty'):
    versions._claim(workdir, run, workdir)


def test_a_version_that_fails_its_check_has_no_name(
  workdir, tmp_path, monkeypatch
):
  def check(folder):
    raise ValueError(f'{folder} predicts otherwise')

  monkeypatch.setattr(versions.report, 'check', check)
  with pytest.raises(ValueError, match='predicts otherwise'):
    versions.compress(workdir, 'float16', tmp_path / 'new' / 'out')
  assert not (tmp_path / 'new').exists()


def test_cases_are_drawn_for_the_calibration(tmp_path, monkeypatch):
  """A split may hold one class before the other."""
  first = []

  def fed(folder, cases, most):
    first.extend(case for case, _ in zip(cases, range(20), strict=False))
    return []

  monkeypatch.setattr(exported, 'fed', fed)
  with pytest.raises(ValueError, match='no training case'):
    quantise.quantise(tmp_path, tmp_path, [0] * 200 + [1] * 200, None)
  assert {*first} == {0, 1}


def test_a_cut_that_was_killed_on_its_way_is_made_again(workdir, tmp_path):
  out = tmp_path / 'out'
  versions.compress(workdir, 'prune:.5', out, steps=1)
  (wanted,) = trained.load(out / 'cut').variables
  shutil.rmtree(out / 'cut/checkpoints')
  versions.compress(workdir, 'prune:.5', out, steps=1)
  (again,) = trained.load(out / 'cut').variables
  jax.tree.map(np.testing.assert_array_equal, again, wanted)


def test_a_test_split_of_one_class_has_no_score(workdir, tmp_path, monkeypatch):
  run = trained.load(workdir)
  cases = [c for c in run.experiment.cases('test') if c['label'] == 0]
  made = dataclasses.replace(run.experiment, cases=lambda split: cases)
  artefact.write(run, tmp_path / 'whole', onnx=True, programs=False)
  rows = versions._priced(made, *[tmp_path / 'whole'] * 2, 'int8')
  assert rows[1]['value'] is None
  line = price.text(rows).splitlines()[-1].split()
  assert line[:3] == ['int8', '–', '–']


def test_a_model_of_a_table(make_run, tmp_path):
  run = make_run(
    dict(name='MLP', hidden=(8,)),
    CLASSES | {'inputs': ('covariates',)},
    (dict(name='standardise'),),
    (0,),
    covariate_names=('age', 'stage'),
    covariate_statistics=((60.0, 12.0), (2.0, 1.0)),
  )
  run = trained.load(run)
  artefact.write(run, tmp_path / 'out', onnx=True, programs=False)
  rng = np.random.default_rng(0)
  cases = [
    {'covariates': rng.normal(30, 9, 2).astype('f4'), 'id': str(i)}
    for i in range(5)
  ]
  found = exported.fed(tmp_path / 'out', cases, 4)
  assert [each['covariates'].shape for each in found] == [(1, 2)] * 4
  predictor = exported.Predictor(tmp_path / 'out', run.task)
  samples = [{'raw': case} for case in cases]
  for sample, one in predictor(samples):
    wanted = run.predict(covariates=sample['raw']['covariates']).probabilities
    np.testing.assert_allclose(one.prediction, wanted, atol=1e-5)
  scores, _ = quantise.quantise(
    tmp_path / 'out', tmp_path / 'small', cases, lambda folder: 0.0
  )
  assert {*scores} == {*quantise.METHODS}


@pytest.mark.parametrize(
  ('to', 'message'),
  [
    ('int9', "no way 'int9'; did you mean 'int8'"),
    ('prune:half', 'prune:.5'),
    ('prune:1.5', 'prune:.5'),
    ('student:', 'names no config'),
  ],
)
def test_a_way_that_there_is_not(to, message, workdir, tmp_path):
  with pytest.raises(ValueError, match=message):
    versions.compress(workdir, to, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['onnx', 'onnxruntime'])
def test_a_package_that_is_missing_is_said_before_training(
  name, tmp_path, monkeypatch
):
  found = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda n: None if n == name else found(n)
  )
  with pytest.raises(ValueError, match=rf'package {name}: pip install'):
    versions.compress(tmp_path / 'run', 'prune:.5', tmp_path / 'out')


def test_windows_of_a_volume_calibrate(make_run, tmp_path):
  run = make_run(
    UNET, MASKS, (dict(name='zscore'),), (9, 14, 11, 1), patch=(8, 8, 8)
  )
  run = trained.load(run)
  artefact.write(run, tmp_path / 'out', onnx=True, programs=False)
  rng = np.random.default_rng(0)
  cases = [
    {'image': rng.normal(size=(9, 14, 11, 1)), 'affine': np.eye(4)}
    for _ in range(3)
  ]
  found = exported.fed(tmp_path / 'out', cases, 4)
  assert len(found) == 4
  assert found[0]['image'].shape == (1, 8, 8, 8, 1)
  assert found[0]['statistics'].shape == (1, 2, 1)
  _, left = quantise.quantise(
    tmp_path / 'out', tmp_path / 'small', cases, lambda _: 0.0
  )
  assert left == {}
  graph = onnx.load(tmp_path / 'small' / artefact.ONNX).graph
  # Nothing but the last layer sees three axes.
  small = [x for x in graph.initializer if x.data_type == onnx.TensorProto.INT8]
  three = [x for x in small if len(x.dims) == 5]
  assert sorted(np.prod(x.dims[2:]) for x in three) == [1, 8]
  with pytest.raises(ValueError, match='no training case'):
    quantise.quantise(tmp_path / 'out', tmp_path / 'q', [], lambda _: 0.0)


def test_a_difference_of_masks_is_paired(make_run):
  run = make_run(UNET, MASKS, (), (8, 8, 1))
  task = experiment.restore(run).task
  rng = np.random.default_rng(0)
  rows = lambda shift: [
    {'patient': str(i), 'id': str(i),
     **{m: np.clip(rng.uniform(0.5, 0.6, 2) + shift, 0, 1)
        for m in task.measures}}
    for i in range(40)
  ]  # fmt: skip
  change, (low, high) = price.difference(task, rows(0.0), rows(0.2))
  assert low < change < high
  assert 0.18 < low < high < 0.22


def test_a_difference_of_a_rare_class_is_that_of_the_score(make_run):
  """Four of 40 patients have it: the mean over classes is not that of cases."""
  run = make_run(UNET, MASKS, (), (8, 8, 1))
  task = experiment.restore(run).task
  rng = np.random.default_rng(0)
  loss = rng.uniform(0.1, 0.3, 40)
  rows = lambda share: [
    {'patient': str(i), 'id': str(i),
     **{m: np.array([0.9, 0.8 - share * loss[i] if i < 4 else np.nan])
        for m in task.measures}}
    for i in range(40)
  ]  # fmt: skip
  change, (low, high) = price.difference(task, rows(0), rows(1))
  np.testing.assert_allclose(change, -loss[:4].mean() / 2)
  np.testing.assert_allclose(
    change, price.score(task, rows(1)) - price.score(task, rows(0))
  )
  assert low < change < high < -0.05 + 1e-9


def test_a_slower_version_is_called_so():
  row = dict(
    version='original', score='dice', value=0.8, interval=None, change=None,
    change_interval=None, ece=None, mb=2.0,
    speed={t: dict(p50=1.0, p95=2.0, peak_mb=50.0) for t in price.THREADS},
  )  # fmt: skip
  slow = {t: dict(p50=2.0, p95=3.0, peak_mb=60.0) for t in price.THREADS}
  other = row | dict(
    version='int8', speed=slow, change=-0.01, change_interval=(-0.02, 0.0)
  )
  assert 'note: int8 is smaller, but slower here' in price.text([row, other])
  assert 'note' not in price.text([row, row | {'version': 'b'}])
  alike = dict(other, change=0.0, change_interval=(np.nan, np.nan))
  assert 'nan' not in price.text([row, alike])
