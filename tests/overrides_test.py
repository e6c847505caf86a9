"""What a command line says of a config, and may set in it."""

import pathlib
import runpy

import pytest
from absl import flags
from ml_collections import config_flags

from medjax import cli, overrides
from medjax.config import complete, default_config

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Of planned.py a plan, of search/ more than a config.
FILES = [
  p
  for p in sorted((ROOT / 'configs').rglob('*.py'))
  if p.stem != 'planned' and p.parent.name != 'search'
]


def parsed(config, *argv):
  """The config after a command line."""
  values = flags.FlagValues()
  config_flags.DEFINE_config_dict(
    'config', config, flag_values=values, sys_argv=['main', *argv]
  )
  values(['main', *argv])
  return values.config


def leaves(config, prefix=''):
  """(path, value, type) of all fields."""
  for name, value in config.items():
    if hasattr(value, 'items'):
      yield from leaves(value, f'{prefix}{name}.')
    else:
      yield f'{prefix}{name}', value, config.get_type(name)


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_any_field_of_a_config_can_be_set(path):
  config = runpy.run_path(str(path))['get_config']()
  for name, _, kind in leaves(config):
    assert kind is not type(None), f'{name} is None, of no type'
  # As they are, each of them by its flag.
  flagged = [
    f'--config.{name}={value!r}'
    for name, value, kind in leaves(config)
    if value not in (None, '') and kind is not str
  ]
  assert parsed(config, *flagged).to_dict() == config.to_dict()


@pytest.mark.parametrize(
  'field', ['data.preprocess.resize.shape', 'augment.flip.p']
)
def test_steps_are_counted(field):
  name, _, last = field.rpartition('.')
  name = name.rpartition('.')[0]
  with pytest.raises(flags.Error, match=rf'config\.{name}\[0\]\.{last}=…'):
    overrides.parse(['main', f'--config.{field}=1'])


@pytest.mark.parametrize(
  'text', ['{0: 1, 255: 0}', '((0, 1), (255, 0))', '{255: 0, 0: 1}']
)
def test_values_of_masks_on_the_command_line(text):
  config = parsed(default_config(), f'--config.data.mask_values={text}')
  assert complete(config).data.mask_values == ((0, 1), (255, 0))


def test_patches_where_the_config_has_none():
  config = default_config()
  config.data.patch_size = None
  config = parsed(config, '--config.data.patch_size=(64, 48)')
  assert config.data.patch_size == (64, 48)


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


def test_a_field_is_copied_out_of_a_config_file():
  config = parsed(
    default_config(),
    cli.literal("--config.augment=(dict(name='flip', axes=(0,)), )"),
    cli.literal('--config.adapt=dict(name="mixstyle", of=dict(p=.5))'),
  )
  assert [dict(a) for a in config.augment] == [{'name': 'flip', 'axes': (0,)}]
  assert config.adapt.to_dict() == {'name': 'mixstyle', 'of': {'p': 0.5}}
  for other in (
    '--workdir=dict(a=1)',
    '--config.data.where=dict(',
    "--config.data.path='dict(1)'",
    '--config.model=dict(open)',
    '--config.model=dict(**open)',
  ):
    assert cli.literal(other) == other
