"""Pixels: what is blanked, what stays bit by bit, what is not given away."""

import matplotlib
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from privacy import made
from pydicom import uid

from medjax.privacy import ocr, text

FONT = f'{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf'
US = '1.2.840.10008.5.1.4.1.1.6.1'
US_MANY = '1.2.840.10008.5.1.4.1.1.3.1'


def letters(shape, size=16, words='DOE^JANE 12.03.1960', at=(20, 30)):
  """Mask (h, w) of a line of text."""
  image = Image.new('L', shape[::-1], 0)
  font = ImageFont.truetype(FONT, size)
  ImageDraw.Draw(image).text(at[::-1], words, fill=255, font=font)
  return np.asarray(image) > 127


def noise(shape=(256, 320), seed=0, low=60, deviation=6):
  rng = np.random.default_rng(seed)
  return rng.normal(low, deviation, shape).clip(0, 255).astype(np.uint8)


def covered(mask, found):
  hidden = np.zeros(mask.shape, bool)
  text.blank(hidden, found, True)
  return (hidden & mask).sum() / mask.sum(), hidden.mean()


@pytest.mark.parametrize('size', [10, 14, 20, 32])
@pytest.mark.parametrize('sign', [1, -1])
def test_text_on_noise_is_found_from_five_deviations_on(size, sign):
  mask = letters((256, 400), size)
  image = noise((256, 400), size).astype(float) + sign * 30 * mask
  share, whole = covered(mask, text.boxes(image))
  assert share >= 0.95
  assert whole < 0.2


def test_written_as_scanners_do_it_is_found_on_a_scan(shared_data):
  shares = []
  for i, path in enumerate(
    sorted((shared_data('dicom_sts025') / 'CT').rglob('*.dcm'))[:40:8]
  ):
    image = pydicom.dcmread(path).pixel_array.astype(float)
    mask = letters(image.shape, 12, 'DOE JANE', (10 + 20 * i, 20))
    shares.append(
      covered(mask, text.boxes(np.where(mask, image.max(), image)))[0]
    )
  assert np.mean(shares) >= 0.9


def test_no_text_is_seen_where_there_is_none(shared_data):
  areas = []
  for name in ('dicom_sts025', 'dicom_breast_dce'):
    for path in sorted(shared_data(name).rglob('*.dcm'))[::3]:
      ds = pydicom.dcmread(path)
      if ds.get('Modality') in ('CT', 'MR', 'PT') and 'PixelData' in ds:
        image = ds.pixel_array
        areas.append(covered(np.ones(image.shape, bool), text.boxes(image))[1])
  assert len(areas) > 10
  assert np.median(areas) == 0
  assert np.mean(areas) <= 0.001
  assert text.boxes(noise()) == []
  assert text.boxes(np.zeros((64, 64))) == []


def test_only_the_boxes_change(clean):
  mask = letters((256, 320))
  image = noise()
  image[mask] = 255
  done, (new,) = clean(made.picture(image), 'clean-pixels')
  assert done.boxes >= 1
  array = new.pixel_array
  assert not (array[mask] == 255).any()
  changed = array != image
  assert changed.mean() < 0.15
  assert set(np.unique(array[changed])) == {image.min()}
  assert new.PatientIdentityRemoved == 'YES'
  assert new.BurnedInAnnotation == 'NO'
  assert '113101' in {
    c.CodeValue for c in new.DeidentificationMethodCodeSequence
  }


@pytest.mark.parametrize('photometric', ['RGB', 'YBR_FULL'])
def test_colours_are_kept_as_they_are_stored(clean, photometric):
  mask = letters((256, 320))
  image = np.stack([noise(seed=i) for i in range(3)], -1)
  image[mask] = 255
  source = made.picture(image, photometric=photometric)
  _, (new,) = clean(source, 'clean-pixels')
  assert new.PhotometricInterpretation == photometric
  array = np.frombuffer(new.PixelData, np.uint8).reshape(image.shape)
  black = (0, 0, 0) if photometric == 'RGB' else (0, 128, 128)
  assert (array[mask] == black).all()
  far = np.ones(mask.shape, bool)
  far[:80] = False
  np.testing.assert_array_equal(array[far], image[far])


@pytest.mark.parametrize(
  ('syntax', 'stored'),
  [(uid.JPEG2000Lossless, 'YBR_RCT'), (uid.JPEG2000, 'YBR_ICT')],
)
def test_colours_of_jpeg_2000_are_decoded_and_said_so(clean, syntax, stored):
  mask = letters((256, 320))
  image = np.stack([noise(seed=i, low=60 + 50 * i) for i in range(3)], -1)
  image[mask] = 255
  source = made.picture(image)
  more = {} if stored == 'YBR_RCT' else {'j2k_psnr': [60]}
  source.compress(syntax, encoding_plugin='pylibjpeg', **more)
  source.PhotometricInterpretation = stored
  _, (new,) = clean(source, 'clean-pixels')
  assert new.PhotometricInterpretation == 'RGB'
  assert (new.pixel_array[mask] == 0).all()
  off = np.abs(new.pixel_array[80:].astype(int) - image[80:])
  assert off.max() <= (0 if stored == 'YBR_RCT' else 4)


def test_compressed_pixels_without_text_stay_as_they_are(clean):
  ds = made.read('MR_small_jpeg_ls_lossless.dcm')
  _, (new,) = clean(ds, 'clean-pixels', faces='accept')
  assert new.file_meta.TransferSyntaxUID == ds.file_meta.TransferSyntaxUID
  np.testing.assert_array_equal(new.pixel_array, ds.pixel_array)


def test_outside_of_ultrasound_regions_is_black(clean):
  image = noise()
  ds = made.picture(image, kind=US)
  region = pydicom.Dataset()
  region.RegionLocationMinX0, region.RegionLocationMinY0 = 40, 50
  region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 199, 149
  ds.SequenceOfUltrasoundRegions = [region]
  _, (new,) = clean(ds, 'clean-pixels')
  inside = np.zeros(image.shape, bool)
  inside[50:150, 40:200] = True
  array = new.pixel_array
  np.testing.assert_array_equal(array[inside], image[inside])
  assert (array[~inside] == image.min()).all()
  assert 'SequenceOfUltrasoundRegions' in new


def test_what_stands_still_over_frames_is_found(clean):
  """Too faint in one frame, plain in the mean of many."""
  mask = letters((128, 300), 14, at=(40, 20))
  frames = np.stack([noise((128, 300), i, 90, 12) for i in range(24)])
  frames = (frames + 22 * mask).clip(0, 255).astype(np.uint8)
  assert covered(mask, text.boxes(frames[0]))[0] < 0.9
  _, (new,) = clean(made.picture(frames, kind=US_MANY), 'clean-pixels')
  gone = (new.pixel_array == frames.min()).all(0)
  assert (gone & mask).sum() / mask.sum() >= 0.95


def test_every_frame_of_many_is_looked_at(clean):
  mask = letters((48, 200), 14, 'DOE^JANE', at=(10, 20))
  frames = np.stack([noise((48, 200), i) for i in range(600)])
  frames[301][mask] = 255  # in one frame alone, and little in the mean
  _, (new,) = clean(made.picture(frames, kind=US_MANY), 'clean-pixels')
  assert (new.pixel_array[301][mask] < 255).mean() >= 0.95


@pytest.mark.parametrize('words', ['', 'Error opening data file eng'])
def test_a_tesseract_that_fails_is_told(clean, tmp_path, monkeypatch, words):
  program = tmp_path / 'bin/tesseract'
  program.parent.mkdir()
  program.write_text(
    f'#!/bin/sh\ncat > {tmp_path}/x\necho {words} >&2\nexit 1\n'
  )
  program.chmod(0o755)
  monkeypatch.setenv('PATH', str(program.parent), prepend=':')
  with pytest.raises(ValueError, match=f'--ocr: Tesseract fails: {words or 1}'):
    clean(made.picture(noise()), 'clean-pixels', ocr=True)
  # One that fails later: the picture was not looked through.
  monkeypatch.setattr(ocr, 'check', lambda: None)
  done, written = clean(made.picture(noise()), 'clean-pixels', ocr=True)
  assert written == []
  assert done.refused[0][1] == 'Tesseract fails on its picture'


@pytest.mark.parametrize('kind', ['1.2.840.10008.5.1.4.1.1.7', US])
def test_pictures_that_may_show_text_are_quarantined(clean, kind):
  done, written = clean(made.picture(noise(), kind=kind))
  assert written == []
  assert 'may show text' in done.refused[0][1]
  done, (new,) = clean(made.picture(noise(), kind=kind), trust_pixels=True)
  assert new.PatientIdentityRemoved == 'NO'  # nobody looked
  assert 'BurnedInAnnotation' not in new


def test_said_to_be_burned_in_and_not_found_is_quarantined(clean):
  ds = made.picture(noise(), kind='1.2.840.10008.5.1.4.1.1.2')
  ds.BurnedInAnnotation = 'YES'
  done, written = clean(ds, 'clean-pixels')
  assert written == []
  assert 'none was found' in done.refused[0][1]


def test_an_overlay_in_unused_bits_is_cleared(clean):
  image = (noise().astype(np.uint16) << 2) & 0x0FFF
  hidden = image | (letters(image.shape).astype(np.uint16) << 14)
  ds = made.picture(hidden, kind='1.2.840.10008.5.1.4.1.1.2')
  ds.BitsStored, ds.HighBit = 12, 11
  ds.add_new(0x60000102, 'US', 14)
  _, (new,) = clean(ds)
  np.testing.assert_array_equal(
    np.frombuffer(new.PixelData, '<u2').reshape(image.shape), image
  )


@pytest.mark.parametrize(
  ('change', 'why'),
  [
    (lambda ds: setattr(ds, 'Rows', 999), 'shorter than its header says'),
    (lambda ds: ds.__delattr__('Rows'), 'without Rows'),
    (lambda ds: setattr(ds, 'SOPClassUID', '1.2.3'), 'SOP class is unknown'),
    (
      lambda ds: setattr(ds, 'SOPClassUID', '1.2.840.10008.5.1.4.1.1.104.1'),
      'encapsulated document',
    ),
    (
      lambda ds: setattr(ds, 'SOPClassUID', '1.2.840.10008.5.1.4.1.1.9.4.1'),
      'a voice',
    ),
    (lambda ds: ds.__delattr__('SOPInstanceUID'), 'no SOPInstanceUID'),
  ],
)
def test_unsure_is_quarantined(tmp_path, clean, change, why):
  ds = made.picture(noise(), kind='1.2.840.10008.5.1.4.1.1.2')
  ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
  ds.file_meta.MediaStorageSOPInstanceUID = '1.2.3.4.5'
  change(ds)
  (tmp_path / 'in').mkdir()
  ds.save_as(tmp_path / 'in/a.dcm')
  done, written = clean(tmp_path / 'in')
  assert written == []
  assert why in done.refused[0][1]
