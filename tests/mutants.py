"""Breaks the code in one place at a time and sees whether the tests notice.

    python tests/mutants.py [--count=80] [--seed=0] [--jobs=2] [--log=FILE]
      [MODULE …]

Mutants are drawn by rule, not by hand: from every place of the modules below
where a comparison, an operator, a number, a condition or an argument could be
another, `count` are taken by the seed, as many of each module as its share of
the places. A mutant is killed when one of the test files of its module fails.
Prints each survivor with its line, and the share killed. Some survivors are
the same program in other words; read them. With --log what is known stands in
FILE, and the same command goes on where it was broken off.
"""

import argparse
import ast
import concurrent.futures
import copy
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# A mutant that hangs is killed too; a machine that is busy kills none.
TIMEOUT = 600  # seconds of CPU
_WAIT = 3600  # seconds

# The test files that are to notice, quickest first.
TESTS = {
  'engine': ('engine_test', 'finetune/adapted_test'),
  'train': ('run/clock_test', 'seam_test', 'run/member_test'),
  'evaluate': ('evaluate_test', 'prediction/ensemble_test', 'run/member_test'),
  'experiment': ('experiment_test', 'run/member_test'),
  'optim': ('optim_test',),
  'files': ('files_test',),
  'run/member': ('run/member_test', 'seam_test'),
  'run/checkpoint': ('run/checkpoint_test',),
  'run/per_case': ('evaluate_test', 'compare_test'),
  'data/labelled': ('data/labelled_test',),
  'data/pipeline': ('data/pipeline_test',),
  'data/transforms': ('data/transforms_test',),
  'data/case': ('data/records_test',),
  'data/folder/splits': ('data/folder/splits_test',),
  'prediction/windows': ('prediction/windows_test',),
  'prediction/ensemble': ('prediction/ensemble_test',),
  'prediction/forward': ('prediction/forward_test',),
  'prediction/predictor': ('evaluate_test', 'prediction/ensemble_test'),
  'prediction/regrid': ('prediction/regrid_test', 'evaluate_test'),
  'tasks/classification': ('tasks/classification_test',),
  'tasks/scores': ('tasks/classification_test',),
  'tasks/segmentation': ('tasks/segmentation_test',),
  'tasks/objective': ('tasks/objective_test',),
  'tasks/semi': ('tasks/semi_test',),
  'tasks/consistency': ('tasks/semi_test',),
  'labels/strategies': ('labels/strategies_test',),
  'metrics': ('metrics',),
  'losses': ('losses',),
}

_COMPARED = {
  ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
  ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
  ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATED = {
  ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
  ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
  ast.Pow: ast.Mult,
}  # fmt: skip


def mutations(node):
  """Functions that change a node in place, each in one way."""
  if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARED:
    other = _COMPARED[type(node.ops[0])]
    yield lambda n: n.ops.__setitem__(0, other())
  if isinstance(node, ast.BinOp) and type(node.op) in _OPERATED:
    yield lambda n: setattr(n, 'op', _OPERATED[type(n.op)]())
  if isinstance(node, ast.BoolOp):
    other = ast.Or if isinstance(node.op, ast.And) else ast.And
    yield lambda n: setattr(n, 'op', other())
  if isinstance(node, ast.Constant):
    if isinstance(node.value, bool):
      yield lambda n: setattr(n, 'value', not n.value)
    elif isinstance(node.value, int):
      yield lambda n: setattr(n, 'value', n.value + 1)
    elif isinstance(node.value, float):
      yield lambda n: setattr(n, 'value', 2 * n.value + 1)
  if isinstance(node, ast.If | ast.IfExp):
    yield lambda n: setattr(n, 'test', ast.UnaryOp(ast.Not(), n.test))
  if isinstance(node, ast.Call) and node.keywords:
    for i in range(len(node.keywords)):
      yield lambda n, i=i: n.keywords.pop(i)
  if isinstance(node, ast.Call) and len(node.args) > 1:
    yield lambda n: n.args.pop()


def _skipped(node):
  """What says something and computes nothing: messages, docs, annotations."""
  if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr | ast.AnnAssign):
    return True
  return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _nodes(tree):
  """The nodes of the bodies of functions, in order."""
  stack = [(tree, False)]
  while stack:
    node, inside = stack.pop()
    if _skipped(node):
      continue
    if inside:
      yield node
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.FunctionDef):
      stack += [(c, True) for c in reversed(node.body)]
    else:
      stack += [(c, inside) for c in reversed(children)]


def places(path):
  """(index of the node, of its mutation, line) of all mutants of a file."""
  tree = ast.parse(path.read_text())
  return [
    (i, j, node.lineno)
    for i, node in enumerate(_nodes(tree))
    for j, _ in enumerate(mutations(node))
    if hasattr(node, 'lineno')
  ]


def mutant(path, place):
  """The text of a file, broken in one place."""
  i, j, _ = place
  tree = copy.deepcopy(ast.parse(path.read_text()))
  node = list(_nodes(tree))[i]
  list(mutations(node))[j](node)
  return ast.unparse(ast.fix_missing_locations(tree))


def files_of(module):
  """The files of a module, or of a package, below medjax/."""
  path = ROOT / 'medjax' / module
  if path.is_dir():
    return [p for p in sorted(path.glob('*.py')) if p.name != '__init__.py']
  return [path.with_suffix('.py')]


def noticing(module, file=None):
  """The test files of a module, as arguments of pytest.

  Of a package all, and first those of the file that is broken.
  """
  own = file and ROOT / 'tests' / module / f'{file.stem}_test.py'
  found = [own] if own and own.exists() else []
  for name in TESTS[module]:
    path = ROOT / 'tests' / name
    found.append(path if path.is_dir() else path.with_suffix('.py'))
  return [str(p.relative_to(ROOT)) for p in found]


def draw(modules, count, seed):
  """[(module, file, place)], a share of each module."""
  every = [
    (module, file, place)
    for module in modules
    for file in files_of(module)
    for place in places(file)
  ]
  return sorted(
    random.Random(seed).sample(every, min(count, len(every))), key=str
  )


def passes(home, arguments):
  """Whether pytest passes in a copy of the tree."""
  command = [
    sys.executable,
    '-m',
    'pytest',
    '-q',
    '-x',
    '-p',
    'no:cacheprovider',
  ]
  environment = {**os.environ, 'PYTHONPATH': str(home)}
  try:
    done = subprocess.run(
      [*command, *arguments], cwd=home, env=environment, timeout=_WAIT,
      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
      preexec_fn=_limited,
    )  # fmt: skip
  except subprocess.TimeoutExpired:
    return False
  return done.returncode == 0


def _limited():
  resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT, TIMEOUT))


def survives(module, file=None, place=None):
  """Whether the tests of a module pass on a mutant; without one, as it is."""
  with tempfile.TemporaryDirectory() as home:
    home = pathlib.Path(home)
    for name in ('medjax', 'tests', 'benchmarks', 'configs', 'datasets'):
      shutil.copytree(ROOT / name, home / name, dirs_exist_ok=True)
    shutil.copy(ROOT / 'pyproject.toml', home)
    if file is not None:
      (home / file.relative_to(ROOT)).write_text(mutant(file, place))
    return passes(home, noticing(module, file))


def remembered(path, found):
  """survives(), by what a file knows already; what is new is written there."""
  known = {}
  if path and path.exists():
    known = dict(map(json.loads, path.read_text().splitlines()))

  def ask(module, file=None, place=None):
    at = file and str(file.relative_to(ROOT))
    key = json.dumps([module, at, place])
    if key not in known:
      known[key] = found(module, file, place)
      if path:
        with path.open('a') as f:
          f.write(json.dumps([key, known[key]]) + '\n')
    return known[key]

  return ask


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('modules', nargs='*', default=[*TESTS])
  parser.add_argument('--count', type=int, default=80)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--jobs', type=int, default=2)
  parser.add_argument('--log', type=pathlib.Path)
  args = parser.parse_args()
  os.environ.setdefault(
    'MEDJAX_TEST_DATA', str(ROOT.parent / 'shared' / 'data')
  )
  drawn = draw(args.modules, args.count, args.seed)
  killed, ask = 0, remembered(args.log, survives)
  with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    # Tests that fail as it is would kill every mutant.
    modules = sorted({module for module, _, _ in drawn})
    for module, whole in zip(modules, pool.map(ask, modules), strict=True):
      if not whole:
        raise SystemExit(f'{noticing(module)} fail on the code as it is')
    broken = pool.map(ask, *zip(*drawn, strict=True))
    for (_, file, place), alive in zip(drawn, broken, strict=True):
      killed += not alive
      where = f'{file.relative_to(ROOT)}:{place[2]}'
      print('SURVIVED' if alive else 'killed  ', where, flush=True)
      if alive:
        line = file.read_text().splitlines()[place[2] - 1].strip()
        print(f'    {line}\n    mutation {place}', flush=True)
  print(f'{killed} of {len(drawn)} killed, {killed / len(drawn):.0%}')


if __name__ == '__main__':
  main()
