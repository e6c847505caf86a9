"""A trained, evaluated run of a small set."""

import pytest
from trust.small_run import SIZES, make_cases, make_config

from medjax import experiment
from medjax.evaluate import evaluate
from medjax.train import train


@pytest.fixture(scope='package')
def data():
  """Lets experiments open the synthetic set, and all others as before."""
  others = experiment.open_cases

  def opened(config, split):
    if config.data.name == 'synthetic':
      return make_cases(*SIZES[split])
    return others(config, split)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(experiment, 'open_cases', opened)
    yield


@pytest.fixture(scope='package')
def workdir(data, tmp_path_factory):
  """A trained, evaluated run."""
  folder = tmp_path_factory.mktemp('trust') / 'run'
  made = experiment.make(make_config())
  train(made, folder)
  evaluate(made, folder)
  return folder
