"""Edges out of labels and out of an ontology; codes."""

import json
import sys

import numpy as np
import pytest

from medjax.knowledge import __main__ as command
from medjax.knowledge import concepts, graph, ruleset

OBO = """format-version: 1.2
[Term]
id: X:1
name: finding
[Term]
id: X:2
name: opacity
is_a: X:1 ! finding
[Term]
id: X:3
name: dense opacity
is_a: X:2
[Term]
id: X:4
name: pneumonia
is_a: X:3
"""


def test_cooccurrence_is_the_correlation():
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2, (200, 3))
  x[:, 1] = np.where(rng.random(200) < 0.8, x[:, 0], x[:, 1])
  names = ('a', 'b', 'c')
  (edge,) = graph.cooccurrence(x, names)
  assert edge[:2] == ('a', 'b')
  assert edge[2] == pytest.approx(np.corrcoef(x.T)[0, 1], abs=1e-4)
  assert graph.cooccurrence(np.ones((5, 3), int), names) == ()


def test_parents_out_of_an_ontology(tmp_path):
  pytest.importorskip('pronto')
  path = tmp_path / 'x.obo'
  path.write_text(OBO)
  found = concepts.read(path)
  names = ('finding', 'opacity', 'pneumonia', 'nodule')
  known = graph.parents(names, found)
  assert known == {'opacity': 'finding', 'pneumonia': 'opacity'}
  labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
  assert graph.incoherent(labels, known, names) == 1
  assert concepts.find('dense', ontology=found)[0].value == 'X:3'
  path.write_text('nothing')
  with pytest.raises(ValueError, match='is no ontology'):
    concepts.read(path)


def test_codes_that_pydicom_ships():
  (found, *_) = concepts.find('pleural effusion')
  assert (found.value, found.scheme) == ('60046008', 'SCT')
  assert concepts.find('zzz') == []
  with pytest.raises(ValueError, match='no word'):
    concepts.find('?')


def call(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['knowledge', *arguments])
  command.main()


def write(tmp_path, **finding):
  path = tmp_path / 'findings.json'
  patient = {'age': {'value': 60, 'unit': 'years'}, 'known_cancer': False,
             'immunosuppressed': False, 'screening': False}  # fmt: skip
  path.write_text(json.dumps({'patient': patient, 'findings': [finding]}))
  return str(path)


def test_the_command(tmp_path, monkeypatch, capsys):
  size = {'value': 7.2, 'unit': 'mm'}
  path = write(tmp_path, type='solid', number='single', size=size, risk='high')
  out = tmp_path / 'out.json'
  call(monkeypatch, path, '--rules=fleischner,lung_t', f'--out={out}')
  text = capsys.readouterr().out
  assert 'CT at 6 to 12 months, then CT at 18 to 24 months.' in text
  assert 'by the cell "solid, single, 6 to 8 mm, high risk"' in text
  assert '10.1148/radiol.2017161659' in text
  assert 'both speak of this finding' in text
  assert json.loads(out.read_text())['finding 1'][1]['outcome'] == 'T1a'
  call(monkeypatch, '--fields=recist')
  assert 'new_lesion' in capsys.readouterr().out
  call(monkeypatch, '--code=pleural effusion')
  assert '60046008' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('finding', 'rules', 'message'),
  [
    ({'size': 7}, 'fleischner', 'without a unit'),
    ({'size': {'value': -3, 'unit': 'mm'}}, 'fleischner', 'possible are 0'),
    ({'size': {'value': 7, 'unit': 'kg'}}, 'fleischner', "is in 'kg'"),
    ({'type': 'soild'}, 'fleischner', "did you mean 'solid'"),
    ({'known_cancer': 'no'}, 'fleischner', 'true or false'),
    ({}, 'fleishner', "did you mean 'fleischner'"),
  ],
)
def test_bad_input_is_one_line(
  tmp_path, monkeypatch, capsys, finding, rules, message
):
  path = write(tmp_path, **finding)
  with pytest.raises(SystemExit, match='1'):
    call(monkeypatch, path, f'--rules={rules}')
  (line,) = capsys.readouterr().err.strip().splitlines()
  assert message in line


def test_rules_of_a_users_own(tmp_path):
  path = tmp_path / 'mine.toml'
  path.write_text(
    'title="t"\ncitation="c"\ndoi="d"\nexclusive=true\n'
    '[fields]\nx={about="x", unit="mm", high=9}\n[outcomes]\na="A."\n'
    '[[clauses]]\nname="n"\nwhen=[{field="y", below=1}]\noutcome="a"\n'
  )
  with pytest.raises(ValueError, match='unknown field'):
    ruleset.load(str(path))
  path.write_text(path.read_text().replace('"y"', '"x"'))
  assert ruleset.load(str(path)).name == 'mine'
