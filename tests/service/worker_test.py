"""From rows to results, by a real model, in this process."""

import dataclasses
import io
import shutil
import time

import highdicom as hd
import hospital
import numpy as np
import pydicom
import pytest
import sqlalchemy as sa

from medjax.data import formats
from medjax.service import (
  again,
  analyse,
  complete,
  deliver,
  intake,
  models,
  tables,
  view,
  worker,
)  # fmt: skip


def one(store, table):
  with store.read() as c:
    return c.execute(sa.select(table).order_by(table.c.id)).all()


@pytest.fixture
def ready(store, workdir, tmp_path):
  """A store with the model, and a worker that has not begun."""
  models.install(store, workdir, when='Modality=MR, SeriesDescription~HCrop')
  return store, worker.Worker(store, 'worker-0')


def send(store, files):
  for path in files:
    assert intake.receive(store, path.read_bytes()).status == intake.OK
  complete.complete_studies(store)


def test_a_study_becomes_a_segmentation_and_a_report(ready, images, tmp_path):
  store, work = ready
  files = hospital.mr_series(images[0], tmp_path / 'd')
  send(store, files)
  assert work.step()
  assert not work.step()
  (job,) = one(store, tables.jobs)
  assert (job.state, job.outcome['summary']) == ('written', 'finding')
  results = {r.kind: store.bytes(r.digest) for r in one(store, tables.results)}
  assert sorted(results) == ['seg', 'sr']
  # The mask comes back as it is, by medjax and by highdicom.
  (tmp_path / 'seg.dcm').write_bytes(results['seg'])
  image = formats.read(tmp_path / 'd')
  masks = formats.read_segmentation(tmp_path / 'seg.dcm', image)
  prediction = np.zeros(image.array.shape[:-1], int)
  for k, name in enumerate(('anterior', 'posterior'), start=1):
    prediction[masks[name]] = k
  seg = hd.seg.segread(tmp_path / 'seg.dcm')
  theirs = seg.get_volume(combine_segments=True).array
  assert sorted(np.bincount(theirs.ravel())[1:]) == sorted(
    np.bincount(prediction.ravel())[1:]
  )
  # The report's volumes are the voxels times their size.
  volume = abs(np.linalg.det(image.affine[:3, :3]))
  report = pydicom.dcmread(io.BytesIO(results['sr']))
  found = [v for n, v in numbers(report) if n == 'Volume']
  counted = [volume * (prediction == k).sum() for k in (1, 2)]
  np.testing.assert_allclose(found, counted, rtol=1e-6)
  deliver.deliver(store)  # to nobody
  assert one(store, tables.jobs)[0].state == 'done'


def numbers(dataset):
  """(name, value) of the numeric items of a report."""
  for item in dataset.get('ContentSequence') or ():
    if item.ValueType == 'NUM':
      name = item.ConceptNameCodeSequence[0].CodeMeaning
      yield name, float(item.MeasuredValueSequence[0].NumericValue)
    yield from numbers(item)


def codes(dataset):
  """(name, value) of the coded items of a report."""
  for item in dataset.get('ContentSequence') or ():
    if item.ValueType == 'CODE':
      name = item.ConceptNameCodeSequence[0].CodeValue
      yield name, item.ConceptCodeSequence[0].CodeValue
    yield from codes(item)


def test_the_same_study_gives_the_same_bytes(workdir, images, tmp_path, store):
  models.install(store, workdir, when='Modality=MR')
  (row,) = one(store, tables.models)
  files = hospital.mr_series(images[1], tmp_path / 'd')
  uids = [str(k) for k in range(len(files))]
  twice = [
    analyse.analyse(analyse.Model.load(row), files, uids) for _ in range(2)
  ]
  assert twice[0] == twice[1]
  other = dataclasses.replace(analyse.Model.load(row), digest='0' * 64)
  assert analyse.analyse(other, files, uids).objects != twice[0].objects


def test_late_images_make_a_version_that_names_the_first(
  ready, workdir, images, tmp_path
):
  store, work = ready
  files = hospital.mr_series(images[0], tmp_path / 'd')
  send(store, files[:-2])
  assert work.step()
  with store.write() as c:  # its results did not arrive
    c.execute(tables.jobs.update().values(state='failed'))
  # Installed again, with another option: that is of the next analysis.
  said = ['5366008', 'SCT', 'Hippocampus']
  models.install(
    store,
    workdir,
    when='Modality=MR, SeriesDescription~HCrop',
    codes={'anterior': said},
  )
  send(store, files[-2:])
  first, second = one(store, tables.jobs)
  assert second.version == 2
  assert second.predecessor == first.id
  assert work.step()
  reports = [
    pydicom.dcmread(io.BytesIO(store.bytes(r.digest)))
    for r in one(store, tables.results)
    if r.kind == 'sr'
  ]
  (item,) = reports[1].PredecessorDocumentsSequence
  named = item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
  assert named.ReferencedSOPInstanceUID == reports[0].SOPInstanceUID
  found = [job.outcome['findings'][0] for job in one(store, tables.jobs)]
  assert [f['code'] == said for f in found] == [False, True]
  with store.read() as c:
    shown = view.study(c, first.study)
  assert shown['jobs'][0]['changed'][0] == (
    f'2 images came later; there are {len(files)} now.'
  )


def test_a_worker_waits_for_the_report_that_it_names(ready, images, tmp_path):
  store, work = ready
  files = hospital.mr_series(images[0], tmp_path / 'd')
  send(store, files[:-2])
  first, t = one(store, tables.jobs)[0], tables.jobs
  with store.write() as c:  # another worker is at it
    lease = time.time() + 30
    c.execute(t.update().values(state='running', owner='x', lease=lease))
  send(store, files[-2:])
  assert not work.step()
  with store.write() as c:
    c.execute(t.update().where(t.c.id == first.id).values(lease=0.0))
  assert work.step()
  assert work.step()


def test_damaged_input_is_an_abstention(ready, images, tmp_path):
  store, work = ready
  files = hospital.mr_series(images[0], tmp_path / 'd')
  send(store, [f for k, f in enumerate(files) if k != 7])  # a slice is missing
  assert work.step()
  (job,) = one(store, tables.jobs)
  assert job.outcome['summary'] == 'abstained'
  assert job.outcome['kind'] == 'input refused'
  assert '1 slices are missing' in job.outcome['reasons'][0]
  assert str(tmp_path) not in job.outcome['reasons'][0]
  (result,) = one(store, tables.results)
  assert result.kind == 'sr'
  report = pydicom.dcmread(io.BytesIO(store.bytes(result.digest)))
  found = dict(codes(report))
  assert found['111017'] == '111245'  # no algorithms succeeded
  assert ('121071', '82334004') in list(codes(report))  # indeterminate
  assert '111241' not in found.values()  # never: without findings


@pytest.mark.parametrize(
  'fields',
  [
    {'ImageOrientationPatient': lambda k: [1, 0, 0, 0, 1, 0] if k % 2 else
     [0, 1, 0, 0, 0, 1]},
    {'ImagePositionPatient': lambda k: [0, 0, 0]},
    {'PixelSpacing': lambda k: [1.0, 1.0 + k]},
    {'BitsStored': 99},
  ],
)  # fmt: skip
def test_odd_series_are_abstentions(ready, images, tmp_path, fields):
  store, work = ready
  send(store, hospital.mr_series(images[0], tmp_path / 'd', **fields))
  assert work.step()
  (job,) = one(store, tables.jobs)
  assert job.outcome['kind'] == 'input refused', job.outcome


def test_a_series_that_is_missing_is_said(store, workdir, images, tmp_path):
  models.install(
    store, workdir, when='SeriesDescription~FLAIR', study_when='Modality=MR'
  )
  send(store, hospital.mr_series(images[0], tmp_path / 'd'))
  assert worker.Worker(store, 'w').step()
  (job,) = one(store, tables.jobs)
  assert job.outcome['kind'] == 'series missing'


def test_a_changed_model_is_refused(store, workdir, images, tmp_path):
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  models.install(store, copy, when='Modality=MR')
  (copy / 'calibration.json').write_text('{}')
  send(store, hospital.mr_series(images[0], tmp_path / 'd'))
  assert worker.Worker(store, 'w').step()
  (job,) = one(store, tables.jobs)
  assert job.state == 'refused'
  assert 'was changed' in job.reason
  models.install(store, copy, when='Modality=MR')
  again.retry(store, job.id, who='me')
  assert worker.Worker(store, 'w').step()
  assert one(store, tables.jobs)[0].state == 'written'


def test_a_worker_that_dies_again_and_again_abstains(ready, images, tmp_path):
  store, work = ready
  send(store, hospital.mr_series(images[0], tmp_path / 'd'))
  with store.write() as c:
    c.execute(tables.jobs.update().values(tries=store.settings.worker.tries))
  assert work.step()
  (job,) = one(store, tables.jobs)
  assert job.outcome['kind'] == 'model failed'
  deliver.deliver(store)
  again.retry(store, job.id, who='me')
  with pytest.raises(ValueError, match='job 2 runs it again already'):
    again.retry(store, job.id, who='me')
  assert work.step()
  second = one(store, tables.jobs)[1]
  assert second.outcome['summary'] == 'finding'
  assert len({r.sop_uid for r in one(store, tables.results)}) == 3


def test_a_classifier_of_x_rays(store, classifier, shared_data, tmp_path):
  models.install(store, classifier, when='Modality=DX')
  arrays = np.load(shared_data('pneumoniamnist') / 'pneumoniamnist.npz')
  file = hospital.x_ray(arrays['test_images'][0], tmp_path / 'x.dcm')
  send(store, [file])
  assert worker.Worker(store, 'w').step()
  (job,) = one(store, tables.jobs)
  (finding,) = job.outcome['findings']
  assert finding['name'] == 'pneumonia'
  assert 0 <= finding['probability'] <= 1
  right = finding['right']
  assert right['low'] <= right['there'] / max(right['n'], 1) <= right['high']
  (result,) = one(store, tables.results)
  report = pydicom.dcmread(io.BytesIO(store.bytes(result.digest)))
  certain = [v for n, v in numbers(report) if n == 'Certainty of Finding']
  assert certain[0] == pytest.approx(100 * finding['probability'], abs=1e-3)


def test_a_classifier_of_an_earlier_release_is_refused(
  store, classifier, tmp_path
):
  models.install(store, classifier, when='Modality=DX')
  (row,), m = one(store, tables.models), tables.models
  facts = {k: v for k, v in row.facts.items() if k != 'positive'}
  with store.write() as c:
    c.execute(m.update().values(facts=facts))
  array = np.zeros((28, 28), np.uint8)
  send(store, [hospital.x_ray(array, tmp_path / 'x.dcm')])
  assert worker.Worker(store, 'w').step()
  (job,) = one(store, tables.jobs)
  assert job.state == 'refused'
  assert 'install it again' in job.reason


def test_purge_leaves_nothing_of_a_study(ready, images, tmp_path):
  store, work = ready
  send(store, hospital.mr_series(images[0], tmp_path / 'd'))
  work.step()
  assert again.purge(store, 0, who='me').startswith('0 studies')  # it goes on
  deliver.deliver(store)
  assert again.purge(store, -1, who='me').startswith('1 studies')
  for table in (tables.studies, tables.instances, tables.jobs, tables.results):
    with store.read() as c:
      assert not c.execute(sa.select(table)).all()
  (model,) = one(store, tables.models)  # its card stays
  left = [p.name for p in store.files.rglob('*') if p.is_file()]
  assert left == [model.facts['card']]


def test_purge_leaves_what_is_not_done_or_came_anew(
  store, images, tmp_path, monkeypatch
):
  files = hospital.mr_series(images[0], tmp_path / 'd')
  intake.receive(store, files[0].read_bytes())  # nobody has routed it
  assert again.purge(store, -1, who='me').startswith('0 studies')
  complete.complete_studies(store)
  (study,), s = one(store, tables.studies), tables.studies
  with store.write() as c:
    c.execute(s.update().values(touched=study.touched - 100))
  purge_study = again._purge_study

  def late(*arguments):  # an image comes between the list and its removal
    assert intake.receive(store, files[0].read_bytes()).status == intake.OK
    return purge_study(*arguments)

  monkeypatch.setattr(again, '_purge_study', late)
  assert again.purge(store, 50, who='me').startswith('0 studies')
  assert len(one(store, tables.instances)) == 1
  monkeypatch.undo()
  with store.write() as c:
    c.execute(s.update().values(touched=study.touched - 100))
  assert again.purge(store, 50, who='me').startswith('1 studies')
