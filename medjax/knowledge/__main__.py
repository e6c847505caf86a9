"""Applies published rules: `python -m medjax.knowledge FINDINGS.json`.

FINDINGS.json holds {"patient": {…}, "findings": [{…}, …]}, whose fields are
those that a set of rules reads (--fields=RULES lists them); numbers have a
unit, and what is missing or null is unknown. Printed are the recommendation,
the cell of the table that fired, the citation, what is missing, and what is
still possible. `--code=TEXT` looks a coded concept up. For research: the rules
are a reading of papers, not the judgement of a physician.
"""

import dataclasses

from medjax import cli, files
from medjax.knowledge import concepts, ruleset
from medjax.knowledge.evaluate import evaluate


def answers(path, names):
  """[(name of the finding, its `Answer`s)] of a file of findings.

  Raises ValueError of one line, with the finding, for what cannot be read.
  """
  tree = files.read_json(path, mend='write it again')
  if tree is None:
    raise FileNotFoundError(f'{path}: no such file of findings')
  if not isinstance(tree, dict) or not isinstance(tree.get('findings'), list):
    raise ValueError(
      f'{path}: needs {{"patient": {{…}}, "findings": [{{…}}, …]}}'
    )
  patient = tree.get('patient') or {}  # null is unknown
  if not all(isinstance(each, dict) for each in (patient, *tree['findings'])):
    raise ValueError(
      f'{path}: the patient and each finding are objects, {{"field": value}}'
    )
  sets = [ruleset.load(name) for name in names]
  found = []
  for i, finding in enumerate(tree['findings']):
    name = str(finding.get('name') or f'finding {i + 1}')
    if name in dict(found):
      raise ValueError(
        f'{path}: two findings are called {name!r}; give each a name of its own'
      )
    whole = {**patient, **finding}
    try:
      found.append((name, [evaluate(rules, whole) for rules in sets]))
    except ValueError as e:
      raise ValueError(f'{path}: {name}: {e}') from None
  return found


def told(name, answers):
  """Lines on what rules say of a finding."""
  lines = [f'{name}:']
  for a in answers:
    if a.state == 'open':
      lines.append(f'  {a.rules}: open; possible are {", ".join(a.possible)}')
      lines.append(f'    missing: {", ".join(a.missing)}')
    elif a.state == 'decided':
      lines.append(f'  {a.rules}: {a.outcome}: {a.says}')
      lines.append(f'    by the cell "{a.clause}"')
    else:
      lines.append(f'  {a.rules}: {a.state}: {a.says}')
    lines.append(f'    {a.citation}; doi {a.doi}')
  decided = [a for a in answers if a.state == 'decided']
  if len(decided) > 1:
    several = ' and '.join(a.rules for a in decided)
    lines.append(f'  note: {several} both speak of this finding; read both')
  return lines


def _listed(name):
  rules = ruleset.load(name)
  rows = [
    [f.name, f.unit or ' | '.join(f.choices) or 'true | false', f.about]
    for f in rules.fields.values()
  ]
  table = cli.aligned(['field', 'value', 'what it is'], rows, 'lll')
  return f'{rules.title}\n\n{table}\n\nnot in here: {rules.left_out}'


def main():
  """Command line entry point."""
  parser = cli.parser(
    __doc__,
    'knowledge findings.json --rules=fleischner',
    'knowledge --fields=recist',
    "knowledge --code='pleural effusion'",
  )
  parser.add_argument('findings', nargs='?', metavar='FINDINGS.json',
                      help='findings of one patient')  # fmt: skip
  parser.add_argument(
    '--rules',
    default='fleischner',
    help=f'sets of rules, {", ".join(ruleset.names())}, or FILE.toml '
    '[fleischner]',
  )
  parser.add_argument('--fields', metavar='RULES', help='what a set reads')
  parser.add_argument('--code', metavar='TEXT', help='look a code up')
  parser.add_argument(
    '--ontology', metavar='FILE', help='OBO or OWL for --code'
  )
  parser.add_argument('--out', metavar='FILE.json', help='the answers, as JSON')
  parser.add_argument('--debug', action='store_true', help='show tracebacks')
  args = parser.parse_args()
  with cli.one_line_errors():
    if args.fields:
      print(_listed(args.fields))
    elif args.code:
      own = concepts.read(args.ontology) if args.ontology else None
      rows = [
        [c.scheme, c.value, c.meaning]
        for c in concepts.find(args.code, ontology=own)
      ]
      print(cli.aligned(['scheme', 'code', 'meaning'], rows, 'lll'))
    elif args.findings:
      _apply(args)
    else:
      raise ValueError('give FINDINGS.json, --fields=RULES or --code=TEXT')


def _apply(args):
  found = answers(args.findings, args.rules.split(','))
  for name, each in found:
    print('\n'.join(told(name, each)))
  print('\nFor research. Not a medical device.')
  if args.out:
    tree = {name: [dataclasses.asdict(a) for a in each] for name, each in found}
    files.write_json(args.out, tree)


if __name__ == '__main__':
  main()
