"""Which training cases have a reference, and what is refused."""

import collections

import numpy as np
import pytest
from PIL import Image

from medjax import experiment, public
from medjax.config import default_config
from medjax.data import labelled, pipeline
from medjax.data.folder import open_folder

CLASSES = ('a', 'b', 'c')


class Cases(list):
  class_names = CLASSES


def make_cases(n=60, *, per_patient=1, shares=(6, 3, 1), dense=False):
  """Classes in shares, some cases of a patient."""
  rng, cases = np.random.default_rng(0), Cases()
  classes = np.repeat(np.arange(3), shares)
  for i in range(n):
    patient = i // per_patient
    case = {
      'id': f'case {i}',
      'patient': f'patient {patient}',
      'image': rng.integers(0, 255, (12, 12, 1)).astype(np.uint8),
      'affine': np.eye(3),
      'spacing': np.ones(2),
    }
    if dense:
      case['mask'] = np.full((12, 12), classes[patient % 10], np.uint8)
    else:
      case['label'] = np.int32(classes[patient % 10])
    cases.append(case)
  return cases


def chosen(cases, count, *, seed=0, keep=False, field='label', **options):
  choice = labelled.Choice(count, seed=seed, **options)
  return labelled.chosen(cases, choice, fields=(field,), keep=keep)


def ids(view):
  return {c['id'] for c, on in zip(view, view.referenced, strict=True) if on}


def referenced(cases, field):
  """Ids of the cases of a folder that are told, unread, to have a reference."""
  told = labelled.told(cases, (field,))
  return {name for name, _, label in told if label is not None}


@pytest.mark.parametrize('per_patient', [1, 3])
@pytest.mark.parametrize('seed', [0, 1])
def test_few_are_among_more_and_classes_keep_their_shares(per_patient, seed):
  cases = make_cases(180, per_patient=per_patient)
  before = set()
  for count in (10, 20, 40):
    view = chosen(cases, count, seed=seed)
    assert before < ids(view)
    before = ids(view)
    labels = collections.Counter(int(c['label']) for c in view)
    patients = {c['patient'] for c in view}
    assert len(patients) == count
    assert len(view) == count * per_patient  # whole patients
    for k, share in enumerate((0.6, 0.3, 0.1)):
      assert abs(labels[k] / per_patient - share * count) <= 1
  assert ids(chosen(cases, 20, seed=seed)) == ids(chosen(cases, 20, seed=seed))
  assert ids(chosen(cases, 20, seed=5)) != ids(chosen(cases, 20, seed=seed))


def test_the_others_stay_without_their_reference_or_are_left_out():
  cases = make_cases()
  kept, out = chosen(cases, 20, keep=True), chosen(cases, 20)
  assert len(kept) == 60
  assert ids(kept) == ids(out) == {c['id'] for c in out}
  for case, on in zip(kept, kept.referenced, strict=True):
    assert ('label' in case) == on
  assert len(out) == 20
  assert all('label' in c for c in out)
  assert 'label' in cases[0]  # as it was
  assert kept.class_names == CLASSES
  assert repr(kept) != repr(chosen(cases, 21, keep=True))


def test_cases_may_be_named():
  view = chosen(make_cases(), 0, ids=('case 3', 'case 59'))
  assert [c['id'] for c in view] == ['case 3', 'case 59']
  with pytest.raises(ValueError, match="no case 'case 99' with a reference"):
    chosen(make_cases(), 0, ids=('case 99',))


def test_without_a_choice_nothing_changes():
  cases = make_cases()
  assert chosen(cases, 0) is cases
  own = labelled.chosen(cases, labelled.Choice(5), fields=(), keep=True)
  assert own is cases  # of a task that needs no reference


@pytest.mark.parametrize(
  ('count', 'message'),
  [
    (61, 'labelled=61, but 60 patients of train have a reference'),
    (2, r"class 'c' has no labelled case; .* each class are \d"),
  ],
)
def test_too_many_and_a_class_that_is_absent(count, message):
  with pytest.raises(ValueError, match=message):
    chosen(make_cases(), count)


def test_the_order_does_not_depend_on_the_locale():
  names = [f'Jürgen{i}' for i in range(9)]
  strange = [n.encode().decode('ascii', 'surrogateescape') for n in names]
  order = labelled.ordered(dict.fromkeys(names, 0), 0)
  found = labelled.ordered(dict.fromkeys(strange, 0), 0)
  assert [names[strange.index(n)] for n in found] == order


def test_of_several_labels_at_once_each_must_be_there():
  cases = make_cases()
  for case in cases:
    case['label'] = np.array([1, 1, case['label'] == 2], np.uint8)
  with pytest.raises(ValueError, match=r"class 'c' has no labelled case"):
    chosen(cases, 2)
  assert len(chosen(cases, 60)) == 60


def test_the_number_that_is_told_is_enough_and_the_fewest():
  with pytest.raises(ValueError, match='no labelled case') as e:
    chosen(make_cases(), 2)
  fewest = int(str(e.value).rpartition(' ')[2])
  assert len(chosen(make_cases(), fewest)) == fewest
  with pytest.raises(ValueError, match='no labelled case'):
    chosen(make_cases(), fewest - 1)


def test_no_unlabelled_case_and_a_class_in_no_mask():
  with pytest.raises(
    ValueError, match='all 60 training cases have a reference'
  ):
    chosen(make_cases(), 0, keep=True)
  with pytest.raises(
    ValueError, match=r"class '.' is in none of the 1 labelled"
  ):
    chosen(make_cases(dense=True), 1, field='mask')


def test_half_of_a_batch_has_a_reference_wherever_it_begins():
  view = chosen(make_cases(), 6, keep=True)
  samples = pipeline.Cached(view, dict, budget_bytes=0)
  make = lambda **options: pipeline.TrainStream(
    samples, batch_size=8, steps=30, fields=('label',), **options
  )
  stream = make()
  seen, images = [], []
  for k in range(30):
    batch = [stream[8 * k + i] for i in range(8)]
    known = [bool(e['valid']['label']) for e in batch]
    assert known == [False, True] * 4  # evenly, as devices have them
    seen += [e['image'].tobytes() for e in batch if e['valid']['label']]
    images += [e['image'].tobytes() for e in batch if not e['valid']['label']]
  assert set(collections.Counter(seen).values()) == {20}  # all of 6, alike
  assert len({*images[:54]}) == 54  # each once, before any comes again
  parts = [make(process_index=i, process_count=2) for i in range(2)]
  both = [parts[i // 4][4 * 3 + i % 4] for i in range(8)]
  for one, two in zip(both, [stream[24 + i] for i in range(8)], strict=True):
    np.testing.assert_array_equal(one['image'], two['image'])
  quarter = make(share=0.25)
  known = [bool(quarter[i]['valid']['label']) for i in range(8)]
  assert sum(known) == 2


def test_cases_of_test_are_refused_those_of_validation_left_out(capsys):
  cases = make_cases()
  view = chosen(cases, 20, keep=True)
  free = [c for c, on in zip(view, view.referenced, strict=True) if not on]
  others = make_cases(80)[60:]
  fresh = [
    {**c, 'id': f'other {i}', 'patient': f'other {i}'}
    for i, c in enumerate(others)
  ]
  rng = np.random.default_rng(1)
  for case in fresh:
    case['image'] = rng.integers(0, 255, (12, 12, 1)).astype(np.uint8)
  judged = {'validation': fresh[:10], 'test': fresh[10:]}
  assert labelled.apart(view, judged) is view
  noisy = free[0]['image'].astype(int) + rng.integers(-2, 3, (12, 12, 1))
  copy = {**fresh[0], 'image': noisy.clip(0, 255).astype(np.uint8)}
  with pytest.raises(
    ValueError, match=f'{free[0]["id"]} is the image of other'
  ):
    labelled.apart(view, {**judged, 'test': [copy]})
  left = labelled.apart(view, {**judged, 'validation': [copy]})
  assert len(left) == 59
  assert free[0]['id'] not in {c['id'] for c in left}
  assert (
    '1 unlabelled cases look like one of validation' in capsys.readouterr()[0]
  )
  same = {**fresh[0], 'patient': free[1]['patient']}
  for split in judged:
    with pytest.raises(ValueError, match=f'{free[1]["id"]} is of the patient'):
      labelled.apart(view, {split: [same]})


def write(path, seed, shape=(12, 12)):
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(seed)
  array = rng.integers(0, 255, shape).astype(np.uint8)
  Image.fromarray(array).save(path)


def test_a_folder_of_classes_beside_unlabelled(tmp_path):
  for i in range(20):
    write(tmp_path / f'{"ab"[i % 2]}/{i}.png', i)
  for i in range(5):
    write(tmp_path / f'unlabelled/{i}.png', 100 + i)
  train = open_folder(tmp_path, 'train', partly=True)
  assert sum('label' not in c for c in train) == 5
  assert referenced(train, 'label') == {c['id'] for c in train if 'label' in c}
  assert train.class_names == ('a', 'b')
  for split in ('validation', 'test'):
    assert all('label' in c for c in open_folder(tmp_path, split, partly=True))
  with pytest.raises(ValueError, match='for tasks that learn from them'):
    open_folder(tmp_path, 'train')


def test_images_of_which_some_have_a_mask(tmp_path):
  for i in range(12):
    write(tmp_path / f'images/{i}.png', i)
  for i in range(8):
    mask = Image.fromarray(np.full((12, 12), i % 2, np.uint8))
    (tmp_path / 'masks').mkdir(exist_ok=True)
    mask.save(tmp_path / f'masks/{i}.png')
  options = dict(partly=True, dense=True)
  train = open_folder(tmp_path, 'train', **options)
  assert sum('mask' not in c for c in train) == 4
  assert referenced(train, 'mask') == {c['id'] for c in train if 'mask' in c}
  assert all('mask' in c for c in open_folder(tmp_path, 'test', **options))
  with pytest.raises(FileNotFoundError, match='how many masks to use'):
    open_folder(tmp_path, 'train', dense=True)


def test_empty_cells_of_a_table_are_of_train_but_by_patient(tmp_path):
  rows = ['image,label,patient']
  for i in range(24):
    write(tmp_path / f'{i}.png', i)
    label = '' if i >= 18 else 'ab'[i % 2]
    patient = 0 if i == 23 else i  # who is labelled too
    rows.append(f'{i}.png,{label},p{patient}')
  (tmp_path / 'cases.csv').write_text('\n'.join(rows) + '\n')
  found = {
    k: open_folder(tmp_path, k, partly=True, seed=3)
    for k in ('train', 'validation', 'test')
  }
  free = {k: [c['id'] for c in v if 'label' not in c] for k, v in found.items()}
  whose = next(k for k, v in found.items() if any(c['id'] == '0' for c in v))
  assert '23' in free[whose]
  assert {*free['train']} - {'23'} == {'18', '19', '20', '21', '22'}


def test_an_experiment_has_them_as_its_task_wants(tmp_path, monkeypatch):
  rng = np.random.default_rng(2)

  def opened(config, split):
    cases = make_cases(40 if split == 'train' else 12)
    for i, case in enumerate(cases):
      case |= {'id': f'{split} {i}', 'patient': f'{split} {i}'}
      case['image'] = rng.integers(0, 255, (12, 12, 1)).astype(np.uint8)
    return cases

  monkeypatch.setattr(experiment, 'open_cases', opened)
  config = default_config()
  config.data.update(name='made', labelled=20)
  config.model = dict(name='LeNet5')
  for name, count in (
    ('Classification', 20),
    ('MeanTeacherClassification', 40),
  ):
    config.task = dict(name=name)
    cases = experiment.make(config).cases('train')
    assert len(cases) == count
    assert sum('label' in c for c in cases) == 20
  batch = next(iter(public.batches(config)))
  assert batch['valid']['label'].sum() == 8
