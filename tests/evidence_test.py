"""What is kept of a row of the results, and when its run is trained again."""

import json

import evidence
import pytest


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
  for module in (evidence, evidence.judges):
    monkeypatch.setattr(module, 'KEPT', tmp_path / 'kept')


def finished(folder, dice):
  folder.mkdir(parents=True)
  (folder / 'report.html').write_text('')
  (folder / 'config.json').write_text('{}')
  run = {'seconds': 1800.0, 'device': 'cpu', 'command': 'as typed'}
  metrics = {'run': run, 'validation': {'curves': 1}, 'test': {}, 'sha256': 'x'}
  (folder / 'metrics.json').write_text(json.dumps(metrics))
  lines = ['id,split,patient,dice/a', f'1,test,1,{dice}', '2,validation,2,.1']
  (folder / 'per_case.csv').write_text('\n'.join(lines))


def test_a_row_goes_on_on_another_machine(tmp_path, capsys, monkeypatch):
  """Two of three runs are kept here; the third, and the row, there."""
  row = evidence.ROWS['long']
  here, there = tmp_path / 'here', tmp_path / 'there'
  finished(here / 'long_0', 0.8)
  finished(here / 'long_1', 0.6)
  evidence.keep('long', row, here)
  assert '1 of 3 runs' in capsys.readouterr().out
  assert not (evidence.KEPT / 'long.json').exists()
  kept = json.loads((evidence.KEPT / 'long_0' / 'metrics.json').read_text())
  assert kept['run']['command'].endswith('train long')
  assert 'sha256' not in kept
  cases = (evidence.KEPT / 'long_0' / 'per_case.csv').read_text()
  assert cases.splitlines() == ['id,split,patient,dice/a', '1,test,1,0.8']

  asked = []
  monkeypatch.setattr(
    evidence.subprocess, 'run', lambda command, check: asked.append(command)
  )
  evidence.train('long', row, there)
  assert [command[3] for command in asked] == [f'--workdir={there / "long_2"}']
  finished(there / 'long_2', 0.7)
  evidence.keep('long', row, there)
  said = json.loads((evidence.KEPT / 'long.json').read_text())
  assert said['value'] == pytest.approx(0.7)
  assert said['hours'] == pytest.approx(1.5)

  # The row is whole: what is kept of it spares nothing when it is made anew.
  evidence.train('long', row, tmp_path / 'anew')
  assert len(asked) == 1 + 3
