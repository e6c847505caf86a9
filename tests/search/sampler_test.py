"""What a space may say, so that a journal gives it back as it was."""

import numpy as np
import pytest

from medjax.search import ledger, sampler, worker


@pytest.mark.parametrize(
  'choice', [(28, 28), np.int64(2), float('inf')], ids=repr
)
def test_a_choice_that_a_journal_does_not_give_back(tmp_path, choice):
  space = lambda trial: {'y': trial.suggest_categorical('y', ['a', choice])}
  message = 'give names, and look up what they stand for'
  with pytest.raises(ValueError, match=message):
    sampler.drawn(space)
  objective = lambda overrides, folder, until: {until: 0.5}
  with pytest.raises(ValueError, match=message):
    worker.search(tmp_path, objective, space, trials=2, levels=(9,))
  assert not ledger.read(tmp_path)


@pytest.mark.parametrize('choice', [None, True, 2, 0.5, 'a'])
def test_choices_that_a_journal_gives_back(tmp_path, choice):
  found = worker.search(
    tmp_path,
    lambda overrides, folder, until: {until: 0.5},
    lambda trial: {'y': trial.suggest_categorical('y', [choice])},
    trials=2, levels=(9,), show=lambda line: None,
  )  # fmt: skip
  assert [t.overrides for t in found] == [{'y': choice}] * 2


@pytest.mark.parametrize('said', [None, {3: 1}])
def test_a_space_that_gives_no_fields(said):
  with pytest.raises(ValueError, match=r'must give \{field: value\}, not'):
    sampler.drawn(lambda trial: said)


def test_a_trial_is_learned_once_by_its_highest_rung(tmp_path):
  same = lambda trial: {'y': trial.suggest_categorical('y', ['a', 'b'])}
  for count in (4, 8, 8):  # most trials are the very same as another
    found = worker.search(
      tmp_path, lambda overrides, folder, until: {until: 0.5}, same,
      trials=count, levels=(3, 9), show=lambda line: None,
    )  # fmt: skip
    study = sampler.Study(tmp_path)
    study.learn(found)
    assert [t.last_step for t in study._study.trials] == [
      max(t.values) for t in found
    ]
    assert {max(t.values) for t in found} == {3, 9}
