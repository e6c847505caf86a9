"""The guides: links lead somewhere, and every command that they show parses."""

import argparse
import importlib
import json
import pathlib
import re
import runpy
import shlex
import sys
import tomllib

import numpy as np
import pytest
import yaml
from absl import flags
from ml_collections import config_flags

import medjax
from medjax import experiment
from medjax.__main__ import commands
from medjax.config import complete
from medjax.data.facts import DataFacts

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = sorted(
  path.relative_to(ROOT).as_posix()
  for path in (
    *ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('benchmarks/*.md'),
    *ROOT.glob('colabs/*.ipynb'),
  )
)  # fmt: skip
GUIDES = sorted(p.name for p in ROOT.glob('docs/*.md'))
COMMAND = re.compile(
  r'(?:^|&& |[\s`])(?:python -m medjax\.|medjax )(\w+)\b(.*)'
)


def text(page):
  """The Markdown of a page, or of a notebook."""
  content = (ROOT / page).read_text(encoding='utf-8')
  if page.endswith('.ipynb'):
    cells = json.loads(content)['cells']
    parts = (''.join(c['source']) for c in cells if c['cell_type'] != 'code')
    content = '\n\n'.join(parts)
  return content


def blocks(page):
  """Lines of the code blocks, those that go on in the next one joined."""
  content = text(page).replace('\\\n', ' ')
  fenced = False
  for line in content.splitlines():
    if line.startswith('```'):
      fenced = not fenced
    elif fenced or line.startswith('    '):
      yield line.strip()


def shown():
  """(page, command, its arguments) of all code blocks."""
  for page in PAGES:
    for line in blocks(page):
      if found := COMMAND.search(line):
        yield page, found[1], found[2]
      elif line.startswith('--config.'):
        yield page, 'main', f'--config=configs/unet.py --workdir=w {line}'


SHOWN = list(shown())


def split(arguments):
  """A shell's words, without the comment and what another shell closes."""
  try:
    return shlex.split(arguments, comments=True)
  except ValueError:
    return shlex.split(arguments.rstrip("'"), comments=True)


class Parsed(BaseException):
  """The command line was understood; nothing of the command has run."""


def parse_main(words, monkeypatch):
  """Parses the flags of `medjax main`, and of its config."""
  importlib.import_module('medjax.main')
  words = [
    re.sub('configs/planned.py:.*', 'configs/unet.py:folder', w) for w in words
  ]
  of_config = [w for w in words if re.match('--config[.=]', w)]
  if not any(w.startswith('--config=') for w in words):  # that of the workdir
    assert '--mode=evaluate' in words
    assert any(w.startswith('--workdir=') for w in words)
    of_config.insert(0, '--config=configs/unet.py')
  for word in set(words) - set(of_config):
    name, equals, _ = word.removeprefix('--').partition('=')
    assert equals, word
    assert name in flags.FLAGS, word
  argv = ['main', *of_config]
  monkeypatch.setattr(sys, 'argv', argv)
  values = flags.FlagValues()
  config_flags.DEFINE_config_file(
    'config', flag_values=values, lock_config=False, accept_new_attributes=True
  )
  assert values(argv) == ['main']
  config = complete(values.config)
  assert config.train.steps  # refuses unknown fields
  return config


def parse(command, words, monkeypatch):
  """Parses the arguments of a command by its own parser, and stops there."""
  original = argparse.ArgumentParser.parse_args
  known = argparse.ArgumentParser.parse_known_args

  def parse_args(self, args=None, namespace=None):
    with monkeypatch.context() as m:
      m.setattr(argparse.ArgumentParser, 'parse_known_args', known)
      original(self, args, namespace)
    raise Parsed

  def parse_known_args(self, args=None, namespace=None):
    args, rest = known(self, args, namespace)
    fields = '--config.' if 'config' in args else '--config.data.'
    assert all(word.startswith(fields) for word in rest), rest
    raise Parsed

  parser = argparse.ArgumentParser
  monkeypatch.setattr(parser, 'parse_args', parse_args)
  monkeypatch.setattr(parser, 'parse_known_args', parse_known_args)
  monkeypatch.setattr(sys, 'argv', [f'medjax {command}', *words])
  room = (ROOT / 'medjax' / command).is_dir()
  name = f'medjax.{command}.__main__' if room else f'medjax.{command}'
  with pytest.raises(Parsed):
    importlib.import_module(name).main()


@pytest.mark.parametrize(
  ('page', 'command', 'arguments'),
  [pytest.param(*s, id=f'{s[0]}:{i}:{s[1]}') for i, s in enumerate(SHOWN)],
)
def test_the_command_parses(page, command, arguments, monkeypatch):
  assert command in commands(), f'{page}: no command {command!r}'
  monkeypatch.chdir(ROOT)
  words = split(arguments)
  if '…' in arguments:  # cut short: the first flags still exist
    words = words[: next(i for i, w in enumerate(words) if '…' in w)]
    if not words:
      return
  if command == 'main':
    parse_main(words, monkeypatch)
  else:
    parse(command, words, monkeypatch)


def test_commands_are_found_in_the_guides():
  assert len(SHOWN) > 40
  assert {command for _, command, _ in SHOWN} >= {*commands()}


def test_a_wrong_flag_is_found(monkeypatch):
  monkeypatch.chdir(ROOT)
  with pytest.raises(SystemExit):
    parse('compare', ['a', 'b', '--ouy=c'], monkeypatch)
  with pytest.raises(ValueError, match='no config field seeed'):
    parse_main(['--config=configs/unet.py', '--config.seeed=1'], monkeypatch)
  with pytest.raises(AssertionError):
    parse_main(['--config=configs/unet.py', '--wrokdir=a'], monkeypatch)


def test_survival_of_pictures_prepares_them(monkeypatch):
  """Of two sizes, and grey values up to 255, beside two columns."""
  monkeypatch.chdir(ROOT)
  (arguments,) = (
    a for page, _, a in SHOWN if page == 'docs/prognosis.md' and "('image'" in a
  )
  config = parse_main(split(arguments), monkeypatch)
  facts = DataFacts(
    channels=1, rank=2, event_times=tuple(np.linspace(1, 9, 201)),
    covariate_names=('age', 'marker'), covariate_statistics=((0.0, 1.0),) * 2,
  )  # fmt: skip
  made = experiment.make(config, facts=facts)
  rows = [
    made.prepare({
      'id': 'a', 'patient': 'a', 'image': np.random.default_rng(0).integers(
        0, 256, shape).astype(np.uint8),
      'affine': np.eye(3), 'spacing': np.ones(2), 'time': np.float32(1),
      'event': np.int32(1), 'covariates': np.ones(2, np.float32),
    })
    for shape in ((90, 70, 1), (80, 100, 1))
  ]  # fmt: skip
  assert rows[0]['image'].shape == rows[1]['image'].shape
  assert max(np.abs(row['image']).max() for row in rows) < 10
  assert config.data.batch_size <= 64


@pytest.mark.parametrize('page', PAGES)
def test_names_in_a_line_are_commands_scripts_and_targets(page):
  content = text(page)
  makefile = (ROOT / 'Makefile').read_text()
  for code in re.findall(r'`([^`\n]+)`', content):
    if re.match(r'medjax [a-z]|python -m medjax\.[a-z]', code):
      assert COMMAND.search(code)[1] in commands(), f'{page}: {code}'
    if target := re.fullmatch(r'make (\w+)', code):
      assert f'\n{target[1]}:' in makefile, f'{page}: {code}'
  for script in re.findall(r'python ((?:benchmarks|tests)/\w+\.py)', content):
    assert (ROOT / script).is_file(), f'{page}: {script}'


def anchors(content):
  """What the headings of a page are called in an address."""
  heads = re.findall(r'^#+ (.+)$', content, re.M)
  return {re.sub(r'[^\w\- ]', '', h).lower().replace(' ', '-') for h in heads}


@pytest.mark.parametrize('page', [p for p in PAGES if p.endswith('.md')])
def test_links_lead_somewhere(page):
  content = text(page)
  for target in re.findall(r'\]\(([^)\s]+)\)', content):
    if re.match('https?://', target):
      continue
    path, _, anchor = target.partition('#')
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.is_file(), f'{page}: {target}'
    # The site has the guides only.
    inside = not page.startswith('docs/') or file.resolve().is_relative_to(
      ROOT / 'docs'
    )
    assert inside, f'{page}: {target} is not in docs/'
    if anchor:
      assert anchor in anchors(file.read_text()), f'{page}: {target}'


def test_every_guide_is_in_the_index_the_readme_and_the_site():
  site = tomllib.loads((ROOT / 'zensical.toml').read_text())['project']
  pages = [page for entry in site['nav'] for page in entry.values()]
  assert sorted(pages) == sorted([*GUIDES, 'reference/index.md'])
  readme, index = text('README.md'), text('docs/index.md')
  for guide in set(GUIDES) - {'index.md'}:
    assert f'(docs/{guide})' in readme
    assert f'({guide})' in index


def test_the_readme_is_a_short_one():
  lines = text('README.md').splitlines()
  assert len(lines) <= 150
  assert lines.count('<!-- table -->') == lines.count('<!-- end -->') == 1
  assert 'not a medical device' in ' '.join(lines)


def test_the_citation_is_of_this_version():
  cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
  assert cited['version'] == medjax.__version__
  assert cited['license'] == 'Apache-2.0'


def test_the_reference_has_every_public_module():
  made = runpy.run_path(str(ROOT / 'docs/make_reference.py'))['modules']()
  listed = [module for members in made.values() for module, _ in members]
  assert len(listed) == len({*listed})
  files = [p for p in (ROOT / 'medjax').rglob('*.py') if p.stem[0] != '_']
  names = {
    '.'.join(p.relative_to(ROOT).with_suffix('').parts) for p in files
  }  # fmt: skip
  assert names <= {*listed}
  assert {'medjax', 'medjax.tasks', 'medjax.metrics.surface'} <= {*listed}
