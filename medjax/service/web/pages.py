"""The pages: log in, the work list, a study's report, agreement."""

import pathlib
import re
import time

import jinja2
import sqlalchemy as sa
from fastapi import APIRouter, Depends, Form, Request
from starlette.exceptions import HTTPException
from starlette.responses import (
  HTMLResponse,
  JSONResponse,
  PlainTextResponse,
  RedirectResponse,
)

from medjax.service import assess, audit, intake, users, view
from medjax.service.web import auth

router = APIRouter()
_person = Depends(auth.role(*auth.PEOPLE))
_doctor = Depends(auth.role('doctor'))
_templates = jinja2.Environment(
  loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent / 'templates'),
  autoescape=True,
  undefined=jinja2.StrictUndefined,
  trim_blocks=True,
  lstrip_blocks=True,
)


def _when(seconds):
  return time.strftime('%Y-%m-%d %H:%M', time.localtime(seconds))


def _spelt(name):
  """A name of DICOM as people write it: its parts, by commas."""
  return ', '.join(part for part in str(name).split('^') if part)


def _day(date):
  """A date of DICOM, YYYYMMDD, as YYYY-MM-DD; as it is where it is none."""
  whole = len(date) == 8 and date.isdecimal()
  return f'{date[:4]}-{date[4:6]}-{date[6:]}' if whole else date


_templates.filters |= {
  'when': _when, 'person': _spelt, 'day': _day, 'risk': view.risk,
}  # fmt: skip


def render(name, status=200, *, user=None, **content):
  """An HTML answer of a template."""
  text = _templates.get_template(name).render(user=user, **content)
  return HTMLResponse(text, status)


def add_errors(app):
  """Errors as pages for people, as text for programs."""

  @app.exception_handler(HTTPException)
  async def error(request, e):
    html = 'text/html' in request.headers.get('accept', '')
    if html and e.status_code == 401:
      return RedirectResponse('/login', 303)
    if html:
      return render('error.html.jinja', e.status_code, text=str(e.detail))
    if request.url.path.startswith('/api'):
      return JSONResponse({'detail': e.detail}, e.status_code, e.headers)
    return PlainTextResponse(f'{e.detail}\n', e.status_code, e.headers)

  @app.exception_handler(sa.exc.SQLAlchemyError)
  @app.exception_handler(OSError)
  async def away(request, e):
    text = 'The store cannot be read or written: is the disk full?'
    return await error(request, HTTPException(503, text))


@router.get('/login')
def login_page(request: Request):
  """The form to log in."""
  return render('login.html.jinja', text='')


@router.post('/login')
def login(request: Request, name: str = Form(''), password: str = Form('')):
  """Logs in, and goes to the work list."""
  if not auth.same_origin(request):
    return render('login.html.jinja', 403, text='Asked from another page.')
  try:
    token = users.log_in(request.app.state.store, name, password)
  except users.WaitError as e:
    return render('login.html.jinja', 429, text=f'{e}.'.capitalize())
  if token is None:
    return render('login.html.jinja', 401, text='Name or password is wrong.')
  reply = RedirectResponse('/', 303)
  reply.set_cookie(
    auth.COOKIE,
    token,
    httponly=True,
    samesite='strict',
    secure=request.url.scheme == 'https',
    max_age=12 * 3600,
  )
  return reply


@router.post('/logout')
def logout(request: Request, user=_person):
  """Ends the session."""
  users.log_out(request.app.state.store, request.cookies[auth.COOKIE])
  reply = RedirectResponse('/login', 303)
  reply.delete_cookie(auth.COOKIE)
  return reply


@router.get('/')
def work_list(request: Request, user=_person):
  """The work list."""
  with request.app.state.store.read() as c:
    studies = view.listed(c, limit=200)
    refused = intake.refusals(c)
  return render('list.html.jinja', user=user, studies=studies, refused=refused)


@router.get('/studies/{study}')
def report(request: Request, study: str, user=_person, said: str = ''):
  """The report of a study."""
  store = request.app.state.store
  with store.read() as c:
    found = view.study(c, study)
  if found is None:
    raise HTTPException(404, 'There is no such study.')
  with store.write() as c:
    audit.add(c, user.name, 'looked at', study=study)
  return render(
    'study.html.jinja', user=user, study=found, said=said == 'stored'
  )


@router.get('/jobs/{job}/card')
def card(request: Request, job: int, user=_person):
  """The card of exactly the model that an analysis is of."""
  store = request.app.state.store
  with store.read() as c:
    found = view.job(c, job)
  digest = found and found['model']['card']
  if not digest:
    raise HTTPException(404, 'There is no card of this analysis.')
  # A page of its own, which runs nothing and loads nothing.
  policy = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  )
  text = store.bytes(digest).decode()
  text = re.sub('<script>.*?</script>', '', text, flags=re.DOTALL)
  return HTMLResponse(text, headers={'Content-Security-Policy': policy})


@router.post('/studies/{study}/assessment')
def answer(
  request: Request,
  study: str,
  user=_doctor,
  job: int = Form(),
  finding: str = Form(),
  verdict: str = Form(),
  comment: str = Form('', max_length=2000),
):
  """Notes a doctor's answer, and goes back to the report."""
  store = request.app.state.store
  try:
    assess.add(store, study, job, finding, verdict, comment, user.name)
  except LookupError as e:
    raise HTTPException(404, str(e.args[0])) from None
  except ValueError as e:
    raise HTTPException(422, str(e)) from None
  return RedirectResponse(f'/studies/{study}?said=stored#job-{job}', 303)


@router.get('/agreement')
def agreement(request: Request, user=_person):
  """How often doctors agreed, by model and month."""
  with request.app.state.store.read() as c:
    rows = assess.agreement(c)
  return render('agreement.html.jinja', user=user, rows=rows)
