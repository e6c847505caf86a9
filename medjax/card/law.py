"""Which section of a card speaks to which point that a regulator names.

A map for the reader, no claim: a card complies with nothing by itself. The
points are those of Annex IV of Regulation (EU) 2024/1689, and the headings of
the FDA's draft guidance "Artificial Intelligence-Enabled Device Software
Functions" of 7 January 2025, which is no final text.
"""

# (point, what it asks for, sections of the card that speak to it)
ANNEX_IV = (
  ('1(a)', 'intended purpose, provider, version', ('use', 'identity')),
  ('1(c)', 'versions of software', ('versions',)),
  ('1(e)', 'hardware it runs on', ('training',)),
  ('1(h)', 'instructions for use', ('use',)),
  ('2(a)', 'methods and steps of the development', ('training',)),
  ('2(b)', 'design: what is optimised, and the choices', ('training',)),
  ('2(d)', 'data: provenance, scope, labelling, cleaning', ('data',)),
  ('2(e)', 'human oversight', ('use', 'abstention', 'explanations')),
  ('2(g)', 'validation and testing, metrics, discriminatory impact',
   ('performance', 'subgroups', 'calibration', 'robustness')),
  ('2(h)', 'cybersecurity', ('use', 'privacy')),
  ('3', 'capabilities, limits, accuracy for groups, foreseeable harm',
   ('performance', 'subgroups', 'failures', 'use')),
  ('4', 'why the metrics are appropriate', ('performance',)),
  ('5', 'risk management (Article 9)', ('use',)),
  ('6', 'changes through the lifecycle', ('monitoring',)),
  ('7', 'harmonised standards that were applied', ()),
  ('8', 'EU declaration of conformity', ()),
  ('9', 'plan of monitoring after it is on the market', ('monitoring',)),
)  # fmt: skip
FDA_DRAFT = (
  ('Device description', ('identity', 'use')),
  ('User interface and labeling', ('use',)),
  ('Risk assessment', ('use',)),
  ('Data management', ('data',)),
  ('Model description and development', ('identity', 'training')),
  ('Validation', ('performance', 'subgroups', 'calibration', 'robustness')),
  ('Device performance monitoring', ('monitoring',)),
  ('Cybersecurity', ('use', 'privacy')),
  ('Public submission summary', ()),
)
# Points of which no card says anything, whatever stands in its sections.
_NOT_OF_A_CARD = 'not in a card'


def table(sections):
  """(header, rows) of text: each point, and where the card speaks to it."""
  by_name = {section.name: section for section in sections}
  rows = []
  for point, about, names in ANNEX_IV:
    rows.append([f'AI Act, Annex IV {point}', about, _where(names, by_name)])
  for heading, names in FDA_DRAFT:
    rows.append(['FDA draft of 2025-01-07', heading, _where(names, by_name)])
  return ['Source', 'What it asks for', 'Section of this card'], rows


def _where(names, by_name):
  if not names:
    return _NOT_OF_A_CARD
  return '; '.join(
    by_name[n].title + (' (empty)' if by_name[n].is_empty else '')
    for n in names
  )
