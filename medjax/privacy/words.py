"""Text without the words that could identify: only known words are kept.

The vocabulary is that of DICOM itself: the meanings of its coded concepts, the
names of its attributes, and the abbreviations of scanners.
"""

import functools
import re

# Of scanners' and radiographers' descriptions; letters of sides and axes.
_ABBREVIATIONS = frozenset(
  """
  a abd abdo ac adc angio ap arr art ax axial b bb biopsy bold bone brain br
  bravo breast bw c cal cardiac cc ce cervical chest ci cine cm cnr cor coronal
  corrected coro contrast cr cs csf ct cta ctac ctdi cube cxr d dce delayed
  derived diff diffusion dixon dti dual dw dwi dx dynamic e echo ecg ep epi et
  expiration f fast fat fatsat fb fdg femur ffe fgre fiesta filtered fl flair
  flash flip fov fp fr frame fse fs ftp full fused g gad gated gd ge gi gre
  grappa h haste head hd helical hip hr hu hz i ii iii im image images in inf
  inspiration int inv inversion ir iso isotropic iv j k kernel kv kvp l la lao
  lat lateral lava ld le left lge liver localiser localizer loc low lower ls
  lspine lumbar lung m ma magn map mask mas max mbq mean mei mg mhz min mip mlo
  mm mono mosaic mp mpr mprage mr mra mri mrv ms msec multi muscle n nac native
  nc neck nm non noncon ob obl oblique of opposed op or orig original p pa pc pd
  pelvis perf perfusion pet ph phase plain pn portal post pre pre-contrast
  press pro prone prop propeller proj pw q qa r rad rao re real recon
  reconstructed ref removed renal rest rf ri right rl rms ro roi rt run s sag sagittal
  sat scan scout se sec seg segmentation sense seq series set shoulder si
  skull slab slice slices smartprep soft space spair spgr spine spiral spl spoil
  sr ss sshtse std ste stir stress study sub subtracted subtraction sup supine t
  te tfe tfl thick thin thorax ti tirm tissue tof topogram tr trace tra trans
  transverse trufi tse tumor tumour tspine u ultrasound unenhanced upper us v
  value var vasc ve ven venous vibe view vol volume w water wb weighted whole
  wholebody window wo with without wo x xa xr y z
  """.split()
)
# Words of these lists that are as well names or places of people.
_NAMES = frozenset(
  """
  adams allen anderson andrew baker barrett bell bennett brown burns carter
  charles christian clark cook cooper craig crohn daniel david davis down
  edwards ford francis frank fraser frederick george gordon graham grant gray
  green hall hamilton harris henry hill howard hughes hunter jackson james john
  johnson jordan joseph kelly king lee lewis long louis marie marshall martin
  mary mason may miller mitchell moore morgan morris murphy murray nelson
  parker patrick paul perry peter phillips porter price reed richard richardson
  robert roberts robinson rogers rose ross russell sanders scott shaw simpson
  smith stanley stephen stevens stewart taylor thomas thompson turner victor
  walker wallace ward warren washington watson west white william williams
  wilson wood wright young berlin london paris boston york
  """.split()
)
_TOKEN = re.compile(r'[^\W_]+(?:\.\d+)?|.', re.DOTALL)
_KEPT = set(' _-+./,;:()[]%*=<>&#')
_MEASURE = re.compile(r'[a-z]{0,3}\d{1,3}(\.\d{1,3})?[a-z]{0,3}|b\d{4}')
_PARTS = re.compile(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+')
_DIGITS = 5  # in a row, with signs in between: more may be an id or a date
_LONGEST = 24  # of a device's word; longer ones may be an encoded text


@functools.cache
def vocabulary():
  """All known words, in small letters."""
  from pydicom._dicom_dict import DicomDictionary
  from pydicom.sr._cid_dict import name_for_cid
  from pydicom.sr._concepts_dict import concepts

  found = set(_ABBREVIATIONS)
  texts = [entry[2] for entry in DicomDictionary.values()]
  texts += name_for_cid.values()
  for codes in concepts.values():
    for entries in codes.values():
      texts += [meaning for meaning, _ in entries.values()]
  for text in texts:
    found.update(re.findall(r'[a-z]{3,}', text.lower()))
  return frozenset(found - _NAMES)


def cleaned(text, identifiers=None):
  """A text of known words and short numbers alone; '' if none is left.

  identifiers: `Identifiers` of the patient, which are taken out as well.
  Cleaned again, it stays as it is.
  """
  while True:
    before, text = text, _cleaned_once(text, identifiers)
    if text == before:
      break
  if identifiers and identifiers.within(text):
    return ''
  return text


def _cleaned_once(text, identifiers):
  known = vocabulary()
  tokens = []
  for token in _TOKEN.findall(text):
    if not token[0].isalnum():
      tokens.append(token if token in _KEPT else ' ')
    elif _is_known(token, known) and not (
      identifiers and identifiers.is_word(token)
    ):
      tokens.append(token)
    else:
      tokens.append(' ')
  joined = ' '.join(_without_runs(tokens).split())
  return joined.strip(' _-+./,;:()[]*=&#')


def _is_known(token, known):
  low = token.lower()
  if not token.isascii():
    return False
  if low in known or _MEASURE.fullmatch(low) or re.fullmatch(r'\d+', low):
    return True
  parts = _PARTS.findall(token)
  return (
    len(parts) > 1
    and ''.join(parts) == token
    and all(len(p) > 2 and p.lower() in known for p in parts)
  )


def _without_runs(tokens):
  """The tokens without long rows of digits, and of single letters."""
  kept = list(tokens)
  row, digits, singles = [], 0, 0

  def close():
    if digits > _DIGITS or singles > 2:
      for i in row:
        kept[i] = ' '

  for i, token in enumerate(tokens):
    if token.isalnum() or token[0].isdigit():
      number = sum(c.isdigit() for c in token)
      single = len(token) == 1 and not number
      if not (number or single):
        close()
        row, digits, singles = [], 0, 0
        continue
      row.append(i)
      digits, singles = digits + number, singles + single
  close()
  return ''.join(kept)


def of_device(text, identifiers=None):
  """What a maker wrote into its device: any short word, but no identifier."""
  if identifiers and identifiers.within(text):
    return ''
  if not text.isprintable() or not text.isascii() or '@' in text or '^' in text:
    return ''
  words = text.split(' ')
  fine = [
    w
    for w in words
    if len(w) <= _LONGEST and not (identifiers and identifiers.is_word(w))
  ]
  joined = ' '.join(fine)
  for row in re.findall(r'\d[\d\-/:., ]*\d', joined):
    if sum(c.isdigit() for c in row) > 8:
      joined = joined.replace(row, '')
  return ' '.join(joined.split())
