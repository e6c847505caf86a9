"""The API: studies, jobs, results, assessments, metrics; and STOW-RS."""

import json
from typing import Literal

import anyio.to_thread
import pydantic
import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import PlainTextResponse, Response

from medjax.service import assess, intake, stow, tables, view
from medjax.service.web import auth

router = APIRouter()
_reader = Depends(auth.role(*auth.READERS))
_sender = Depends(auth.role('machine', 'doctor', 'admin'))
_doctor = Depends(auth.role('doctor'))
_OBJECTS = {'seg.dcm': 'seg', 'sr.dcm': 'sr'}
_VIEWS = {
  f'{kind}.nii.gz': kind
  for kind in ('image', 'mask', 'uncertainty', 'explanation')
}


class Assessment(pydantic.BaseModel):
  """A doctor's answer to a finding of a job."""

  job: int
  finding: str
  verdict: Literal['agree', 'disagree', 'amend']
  comment: str = pydantic.Field('', max_length=2000)


@router.get('/healthz', response_class=PlainTextResponse)
def healthz(request: Request):
  """Whether the store answers."""
  try:
    request.app.state.store.check()
  except (ValueError, sa.exc.SQLAlchemyError):
    raise HTTPException(503, 'the store does not answer') from None
  return 'ok'


@router.get('/metrics', response_class=PlainTextResponse)
def metrics(request: Request, user=_reader):
  """Counts for a monitor; nothing of a patient."""
  with request.app.state.store.read() as c:
    return view.metrics(c)


@router.get('/api/studies')
def studies(request: Request, limit: int = 200, user=_reader):
  """The newest studies, without patients' data."""
  with request.app.state.store.read() as c:
    return [view.public(s) for s in view.listed(c, limit=min(limit, 1000))]


@router.get('/api/studies/{study}')
def study(request: Request, study: str, user=_reader):
  """A study and its analyses, without patients' data."""
  with request.app.state.store.read() as c:
    found = view.study(c, study)
  if found is None:
    raise HTTPException(404, 'no such study')
  return view.public(found)


@router.get('/api/jobs/{job}')
def job(request: Request, job: int, user=_reader):
  """An analysis."""
  with request.app.state.store.read() as c:
    found = view.job(c, job)
  if found is None:
    raise HTTPException(404, 'no such job')
  return found


@router.get('/results/{job}/{name}')
def result(request: Request, job: int, name: str, user=_reader):
  """A DICOM object of an analysis, or a picture of it for the page."""
  store = request.app.state.store
  table = tables.results if name in _OBJECTS else tables.views
  kind = _OBJECTS.get(name) or _VIEWS.get(name)
  with store.read() as c:
    digest = c.scalar(
      sa.select(table.c.digest).where(table.c.job == job, table.c.kind == kind)
    )
  if digest is None:
    raise HTTPException(404, 'no such result')
  kinds = {'.dcm': 'application/dicom', '.gz': 'application/gzip'}
  return Response(
    store.bytes(digest), media_type=kinds[name[name.rindex('.') :]]
  )


@router.post('/api/studies/{study}/assessment', status_code=201)
def assessment(request: Request, study: str, body: Assessment, user=_doctor):
  """Notes a doctor's answer."""
  try:
    assess.add(
      request.app.state.store,
      study,
      body.job,
      body.finding,
      body.verdict,
      body.comment,
      user.name,
    )
  except LookupError as e:
    raise HTTPException(404, str(e.args[0])) from None
  except ValueError as e:
    raise HTTPException(422, str(e)) from None
  return {'stored': True}


@router.post('/dicomweb/studies')
@router.post('/dicomweb/studies/{study_uid}')
async def store_instances(request: Request, study_uid: str = '', user=_sender):
  """STOW-RS: multipart/related parts of application/dicom."""
  store = request.app.state.store
  largest = store.settings.intake.largest_mb * 2**20
  try:
    length = int(request.headers.get('content-length') or 0)
    if length > largest:
      raise stow.UnreadableError(f'a request has up to {largest} bytes', 413)
    boundary = stow.boundary_of(request.headers.get('content-type'))
    parts = stow.Parts(boundary, largest)
    answers, total = [], 0
    async for chunk in request.stream():
      total += len(chunk)
      if total > largest:
        raise stow.UnreadableError(f'a request has up to {largest} bytes', 413)
      for part in parts.feed(chunk):
        answers.append(
          await anyio.to_thread.run_sync(_keep, store, part, study_uid, user)
        )
    parts.close()
  except ValueError as e:
    status = getattr(e, 'status', 400)
    return PlainTextResponse(f'{e}\n', status)
  found = {a.study for a in answers if a.status == intake.OK}
  if found:
    kept = sum(a.status == intake.OK for a in answers)
    await anyio.to_thread.run_sync(
      intake.release, store, found, user.name, kept
    )
  if not answers:
    return PlainTextResponse('the body has no parts\n', 400)
  status, tree = stow.reply(answers)
  return Response(json.dumps(tree), status, media_type='application/dicom+json')


def _keep(store, part, study_uid, user):
  """Keeps a part, which must be of the study that the address names."""
  return intake.receive(store, part, peer=user.name, only=study_uid)
