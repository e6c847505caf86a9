"""Files of findings: what is told of them, and what is refused."""

import json

import pytest

from medjax.knowledge import __main__ as command


def nodule(size):
  return {
    'type': 'solid', 'number': 'single', 'risk': 'low',
    'size': {'value': size, 'unit': 'mm'},
  }  # fmt: skip


def asked(tmp_path, *findings, patient=None, rules='fleischner'):
  path = tmp_path / 'findings.json'
  path.write_text(json.dumps({'patient': patient, 'findings': findings}))
  return command.answers(path, [rules])


def test_no_finding_takes_the_place_of_another(tmp_path):
  one, other = nodule(4), nodule(9)
  found = asked(tmp_path, one, {**other, 'name': 'nodule'})
  assert [name for name, _ in found] == ['finding 1', 'nodule']
  named = lambda finding, name: {**finding, 'name': name}
  for pair in (
    (named(one, 'nodule'), named(other, 'nodule')),
    (named(one, 'finding 2'), other),
  ):
    with pytest.raises(ValueError, match='two findings are called'):
      asked(tmp_path, *pair)


@pytest.mark.parametrize(
  ('finding', 'more', 'why'),
  [
    ({'category': 4}, {'rules': 'birads'}, "category is 4; .*'4'"),
    ({'category': ['4']}, {'rules': 'birads'}, 'category is'),
    ({'size': {'value': 1, 'unit': ['mm']}}, {}, 'size is in'),
    ('solid', {}, 'each finding are objects'),
    ({}, {'patient': [1]}, 'the patient and each finding are objects'),
  ],
)
def test_what_is_no_finding_is_told_in_one_line(tmp_path, finding, more, why):
  with pytest.raises(ValueError, match=why) as error:
    asked(tmp_path, finding, **more)
  assert '\n' not in str(error.value)


def test_a_patient_of_whom_nothing_is_known(tmp_path):
  ((_, (answer,)),) = asked(tmp_path, nodule(4), patient=None)
  assert answer.state == 'open'
