"""Who may import whom: the arrows of the house."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Lowest first. A module may import its own layer's entries listed after the
# colon, and nothing else of medjax.
ALLOWED = {
  'build': set(),
  'cli': set(),
  'config': set(),
  'ops': set(),
  'losses': {'ops'},
  'metrics': {'ops'},
  'augment': {'ops'},
  'models': {'ops'},
  'models.__main__': {'build', 'cli', 'models', 'ops'},
  'tasks': {'build', 'losses', 'metrics', 'ops'},
  'data': {'build'},
  'engine': set(),
  'writer': set(),
  'per_case': set(),
  'gallery': set(),
  'figures': set(),
  'page': set(),
  'duplicates': set(),
  'planner': set(),
  'optim': {'build'},
  'finetune': set(),
  'pretrained': {'checkpoint', 'finetune'},
  'checkpoint': set(),
  'stop': set(),
  'processes': set(),
  'inference': {'engine'},
  'ensemble': {'metrics'},
  'prepare': {'cli', 'data'},
  'convert': {'cli', 'data'},
  'survey': {'build', 'cli', 'config', 'data', 'duplicates', 'prepare'},
  'findings': {'duplicates'},
  'inspect': {'cli', 'figures', 'findings', 'gallery', 'page', 'survey'},
  'plan': {'cli', 'planner', 'survey'},
  'experiment': {
    'augment', 'build', 'data', 'finetune', 'models', 'optim', 'prepare',
    'pretrained', 'tasks',
  },
  'evaluate': {
    'checkpoint', 'config', 'data', 'engine', 'ensemble', 'experiment',
    'finetune', 'gallery', 'inference', 'metrics',
  },
  'member': {'checkpoint', 'config', 'data', 'engine', 'writer'},
  'train': {
    'config', 'data', 'engine', 'evaluate', 'experiment', 'finetune', 'member',
    'optim', 'stop',
  },
  'predict': {
    'cli', 'config', 'data', 'ensemble', 'evaluate', 'experiment', 'metrics',
  },
  'report': {'cli', 'figures', 'gallery', 'page'},
  'compare': {'cli', 'figures', 'metrics', 'per_case'},
  'main': {'cli', 'config', 'evaluate', 'processes', 'report', 'train'},
}  # fmt: skip

# Heavy or optional packages, and the only layers that may name them.
ONLY_IN = {
  'jax': set(ALLOWED)
  - {
    'build',
    'cli',
    'config',
    'duplicates',
    'findings',
    'inspect',
    'page',
    'planner',
    'prepare',
    'report',
    'survey',
  },
  'flax': {'engine', 'finetune', 'models', 'ops', 'pretrained'},
  'optax': {'engine', 'optim', 'losses', 'tasks'},
  'orbax': {'checkpoint'},
  'grain': {'data'},
  'tensorflow_datasets': {'data', 'prepare'},
  'nibabel': {'data'},
  'pydicom': {'data'},
  'pyarrow': {'data'},
  'ml_collections': {'config', 'main'},
  'matplotlib': {'figures'},
  'tensorflow': set(),
  'torch': set(),
}


def imports(path):
  """(top-level package, medjax layer or None) of each import of a file."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      for alias in node.names:
        parts = alias.name.split('.')
        yield parts[0], parts[1] if len(parts) > 1 else None
    elif isinstance(node, ast.ImportFrom):
      parts = node.module.split('.')
      if len(parts) > 1:
        yield parts[0], parts[1]
      else:
        for alias in node.names:
          yield parts[0], alias.name


FILES = sorted((ROOT / 'medjax').rglob('*.py'))


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path):
  layer = path.relative_to(ROOT / 'medjax').parts[0].removesuffix('.py')
  if path.name == '__main__.py':  # a program, on top of its folder
    layer += '.__main__'
  if layer == '__init__':
    assert not list(imports(path))
    return
  for package, name in imports(path):
    if package == 'medjax' and name != '__version__':
      assert name == layer or name in ALLOWED[layer], f'{layer} → {name}'
    if package in ONLY_IN:
      assert layer in ONLY_IN[package], f'{layer} names {package}'


def test_configs_and_datasets_are_no_packages():
  for folder in ('configs', 'datasets'):
    assert not (ROOT / folder / '__init__.py').exists()
