"""What a command line says of a config, and may set in it."""

from medjax import overrides
from medjax.config import default_config


def test_the_fields_and_what_is_taken_by_what_they_name():
  config = default_config()
  config.model = dict(name='ResNet18')
  config.task = dict(name='Segmentation', num_classes=2)
  config.optimizer.update(name='sgd')
  config.schedule.update(name='poly')
  config.augment = (dict(name='flip', p=0.5),)
  config.data.preprocess = (dict(name='resample', spacing=(1.0, 1.0, 1.0)),)
  lines = overrides.fields(config)
  assert '  --config.train.steps=1000' in lines
  assert '  --config.optimizer.learning_rate=0.001' in lines
  text = '\n'.join(lines)
  for name, taken in (
    ('sgd', 'momentum=None, nesterov=False'),
    ('poly', 'power=0.9'),
    ('Segmentation', 'nsd_tolerance=1.0'),
    ('flip', 'p=0.5, axes=None'),
    ('resample', 'spacing'),
  ):
    (line,) = [li for li in lines if li.strip().startswith(f'{name} ')]
    assert taken in line
  assert 'num_classes, ' not in text  # the task says it
  assert 'batch, ' not in text


def test_a_flag_is_found_in_both_of_its_forms():
  argv = ['main', '--mode', 'evaluate', '--workdir=w', '--config']
  assert overrides.value(argv, 'mode') == 'evaluate'
  assert overrides.value(argv, 'workdir') == 'w'
  assert overrides.value(argv, 'config') == ''
  assert overrides.value(argv, 'data') == ''
