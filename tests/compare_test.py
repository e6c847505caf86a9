"""The command: two runs, a table, and where it is written."""

import csv
import json
import sys

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medjax import compare, masks


def _write(folder, rows):
  folder.mkdir(exist_ok=True)
  with (folder / 'per_case.csv').open('w', newline='') as f:
    writer = csv.DictWriter(f, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  return str(folder)


def _segmentation(n=30, *, gain=0.0, seed=0, split='test'):
  rng, own = np.random.default_rng(7), np.random.default_rng(seed)
  rows = []
  for i in range(n):
    dice = np.clip(
      rng.uniform(0.5, 0.9, 2) + gain + 0.02 * own.normal(size=2), 0, 1
    )
    distance = 10 * (1 - dice)
    rows.append(
      {'split': split, 'id': f'case{i:02d}', 'patient': f'Doe^{i // 2}',
       'dice/left': dice[0], 'dice/right': dice[1],
       'hd95/left': distance[0], 'hd95/right': distance[1]}
    )  # fmt: skip
  return rows


@pytest.fixture
def run(monkeypatch, capsys):
  """run(*arguments) → exit code, stdout, stderr of the command."""

  def command(*arguments):
    monkeypatch.setattr(sys, 'argv', ['compare', *map(str, arguments)])
    code = 0
    try:
      compare.main()
    except SystemExit as e:
      code = e.code
    return code, *capsys.readouterr()

  return command


def test_command_line(tmp_path, run):
  rows = _segmentation(), _segmentation(gain=0.05, seed=1)
  rows[1][4]['dice/left'] = 0.0
  validation = _segmentation(5, split='validation')
  a = _write(tmp_path / 'a', validation + rows[0])
  b = _write(tmp_path / 'b', rows[1][::-1])
  out = tmp_path / 'new' / 'out'
  code, shown, error = run(a, b, f'--out={out}', '--cases=3')
  assert code == 0, error
  assert '30 cases of 15 patients' in shown
  assert 'Doe' not in shown
  moved = shown.split('Moved most')[1].splitlines()
  assert moved[2].split()[0] == 'case04'
  assert len([line for line in moved if line.startswith('case')]) == 3
  with (out / 'comparison.csv').open(encoding='utf-8') as f:
    lines = list(csv.DictReader(f))
  assert [line['metric'] for line in lines] == ['dice'] * 3 + ['hd95'] * 3
  assert float(lines[1]['low']) < float(lines[1]['difference'])
  assert 'Doe' not in (out / 'comparison.csv').read_text(encoding='utf-8')
  with Image.open(out / 'comparison.png') as image:
    assert min(image.size) > 300
    assert len(image.convert('RGB').getcolors(2**24)) > 20


def test_cases_must_be_the_same(tmp_path, run):
  a = _write(tmp_path / 'a', _segmentation(12))
  b = _write(tmp_path / 'b', _segmentation(30, seed=1)[7:])
  code, _, error = run(a, b)
  assert code == 1
  assert error.count('\n') == 1
  assert f'{a} has 7 that {b} lacks (case00, case01, case02' in error
  assert 'and 4 more' in error
  assert f'{b} has 18 that {a} lacks' in error
  assert 'the 5 that both have with --common' in error
  code, shown, _ = run(a, b, '--common')
  assert code == 0
  assert '5 cases of 3 patients' in shown


def test_columns_are_pairs_of_names(tmp_path, run):
  a = _write(tmp_path / 'a', _segmentation(4))
  code, _, error = run(a, a, '--columns=id')
  assert code == 1
  assert error == 'medjax: --columns=id is not NAME=THEIRS,NAME=THEIRS,…\n'


def _measures(folder, unit='mm', **tables):
  (folder / 'metrics.json').write_text(
    json.dumps({'measures': tables, 'unit_of_length': unit})
  )


def test_names_and_units_are_those_of_the_runs(tmp_path, run):
  rows = _segmentation()
  a, b = _write(tmp_path / 'a', rows), _write(tmp_path / 'b', rows)
  _, shown, _ = run(a, b)
  assert 'Hd95' in shown
  assert 'Which way is better is not said: Dice; Hd95.' in shown
  hd95 = {'title': 'HD95', 'unit': 'mm', 'higher': False}
  _measures(tmp_path / 'b', 'px', hd95=hd95)  # one run says it
  _, shown, _ = run(tmp_path / 'a/per_case.csv', tmp_path / 'b/per_case.csv')
  assert 'Lower is better: HD95, px.' in shown
  _measures(tmp_path / 'a', 'px', hd95=hd95 | {'title': 'HD, 95 %'})
  _, shown, _ = run(a, b)
  assert 'HD, 95 % (B: HD95), px' in shown
  _measures(tmp_path / 'a', 'mm', hd95=hd95)
  code, _, error = run(a, b)
  assert (code, error.count('\n')) == (1, 1)
  assert 'HD95 is mm (less is better) in A, px (less is better) in B' in error
  _measures(tmp_path / 'a', 'px', hd95=hd95 | {'higher': True})
  code, _, error = run(a, b)
  assert 'HD95 is px (more is better) in A, px (less is better) in B' in error


# Masks of any origin.


def _masks(folder, arrays, *, suffix='.png'):
  folder.mkdir()
  for name, array in arrays.items():
    Image.fromarray(array.astype(np.uint8)).save(folder / f'{name}{suffix}')
  return folder


def test_masks_of_any_origin_are_scored(tmp_path, run):
  rng = np.random.default_rng(0)
  references = {f'p{i // 2}_{i}': rng.integers(0, 3, (9, 9)) for i in range(6)}
  predicted = {
    f'{name}_seg': np.where(rng.random((9, 9)) < 0.3, 0, mask)
    for name, mask in references.items()
  }
  a, b = _masks(tmp_path / 'a', predicted), _masks(tmp_path / 'b', references)
  out = tmp_path / 'out'
  code, said, err = run(
    f'--masks={a}', f'--references={b}', f'--out={out}', '--patient=^p[0-9]'
  )
  assert (code, err) == (0, '')
  assert '6 cases of 3 patients' in said
  results = json.loads((out / 'metrics.json').read_text())
  for label in (1, 2):
    dice = [
      2 * ((p == label) & (r == label)).sum()
      / ((p == label).sum() + (r == label).sum())
      for p, r in zip(predicted.values(), references.values(), strict=True)
    ]  # fmt: skip
    found = results['test']['classes'][str(label)]['dice']
    np.testing.assert_allclose(found['value'], np.mean(dice), rtol=1e-6)
    low, high = found['interval']
    assert low < np.mean(dice) < high
  with (out / 'per_case.csv').open(newline='') as f:
    assert len(list(csv.DictReader(f))) == 6
  del references['p0_0']
  c = _masks(tmp_path / 'c', references)
  code, _, err = run(f'--masks={a}', f'--references={c}')
  assert code == 1
  assert 'p0_0' in err
  assert '--common' in err
  code, said, _ = run(f'--masks={a}', f'--references={c}', '--common')
  assert code == 0
  assert '5 cases of 5 patients' in said


def test_one_mask_alone_has_no_interval(tmp_path, run):
  one = {'x': np.eye(9) > 0}
  a, b = _masks(tmp_path / 'a', one), _masks(tmp_path / 'b', one)
  code, said, err = run(f'--masks={a}', f'--references={b}')
  assert (code, err) == (0, '')
  assert '1.000' in said
  assert '(' not in said.split('label 1')[1].splitlines()[0]


def test_masks_that_cannot_be_scored_together(tmp_path, run):
  mask = np.eye(9)
  folders = [_masks(tmp_path / f, {'x': mask, 'y': mask}) for f in 'ab']
  for folder in folders:
    (folder / 'y.png').unlink()
    image = nib.Nifti1Image(mask.astype(np.uint8)[..., None], np.eye(4))
    nib.save(image, folder / 'y.nii.gz')
  code, _, err = run(f'--masks={folders[0]}', f'--references={folders[1]}')
  assert code == 1
  assert 'millimetres and pixels have no mean' in err
  (folders[0] / 'x.nii.gz').write_bytes(b'')
  code, _, err = run(f'--masks={folders[0]}', f'--references={folders[1]}')
  assert code == 1
  assert 'x.png: is called as' in err


def test_masks_of_a_bounded_risk_are_beside_the_masks(tmp_path, run):
  one = {'x_1': np.eye(9) > 0}
  b = _masks(tmp_path / 'b', one)
  a = _masks(tmp_path / 'a', {**one, 'x_1_liver_left_at_0.9': np.eye(9) > 0})
  code, said, _ = run(f'--masks={a}', f'--references={b}')
  assert code == 0
  assert '1 cases' in said


def test_scores_do_not_replace_those_of_a_run(tmp_path, run):
  one, out = {'x': np.eye(9) > 0}, tmp_path / 'run'
  a, b = _masks(tmp_path / 'a', one), _masks(tmp_path / 'b', one)
  out.mkdir()
  (out / 'config.json').write_text('{}')
  code, _, err = run(f'--masks={a}', f'--references={b}', f'--out={out}')
  assert code == 1
  assert 'holds a run, whose scores stay' in err
  assert not (out / 'metrics.json').exists()


def test_masks_of_another_size_and_half_a_command(tmp_path, run):
  a = _masks(tmp_path / 'a', {'x': np.ones((4, 4))})
  b = _masks(tmp_path / 'b', {'x': np.ones((4, 5))})
  code, _, err = run(f'--masks={a}', f'--references={b}')
  assert code == 1
  assert 'shape' in err
  assert err.count('\n') == 1
  code, _, err = run(f'--masks={a}')
  assert code == 1
  assert 'go together' in err
  code, _, err = run()
  assert code == 1
  assert 'give two runs' in err


def test_what_predict_writes_beside_a_mask_is_no_mask(tmp_path):
  for name in ('a', 'a_overlay', 'a_entropy', 'b_overlay'):
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / f'{name}.png')
  np.savez(tmp_path / 'a_probabilities.npz', np.zeros((2, 2, 2)))
  assert [*masks._named(tmp_path)] == ['a', 'b_overlay']
