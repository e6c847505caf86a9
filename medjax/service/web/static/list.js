// Says when the work list is no longer what the page shows.
const shown = document.querySelector('[data-state]').dataset.state;
const news = document.querySelector('.news');

async function look() {
  try {
    const reply = await fetch('/api/studies?limit=200');
    if (!reply.ok) return;
    const studies = await reply.json();
    const now = studies
      .map((s) => `${s.id}:${s.state}:${s.version}:${s.summary}`)
      .join(' ');
    news.hidden = now === shown;
  } catch {
    // The service is away; the next look will tell.
  }
}

setInterval(look, 3000);
document.querySelector('.news button').addEventListener('click', () =>
  location.reload());
