// Keeps the page up to date by server-sent events. The page is complete without this script.
const LOG_CHARACTERS = 512 * 1024;
const RETRY_MS = 10_000;

const path = document.body.dataset.live;
const log = document.getElementById('log');
let source;
let hasEnded = false;

function connect() {
  if (hasEnded || document.hidden || source !== undefined) return;
  source = new EventSource(path);
  source.addEventListener('open', () => tell('live'));
  source.addEventListener('section', ({ data }) => replace(JSON.parse(data)));
  source.addEventListener('title', ({ data }) => (document.title = JSON.parse(data)));
  source.addEventListener('log-start', () => log.replaceChildren());
  source.addEventListener('log', ({ data }) => append(JSON.parse(data).markup));
  source.addEventListener('end', () => {
    hasEnded = true;
    disconnect();
    tell('');
  });
  source.addEventListener('error', () => {
    tell('not connected');
    // The browser tries again by itself unless Drover has refused the stream.
    if (source?.readyState !== EventSource.CLOSED) return;
    disconnect();
    setTimeout(connect, RETRY_MS);
  });
}

function disconnect() {
  source?.close();
  source = undefined;
}

function tell(text) {
  const liveness = document.querySelector('.liveness');
  liveness.textContent = text;
  liveness.dataset.state = text;
}

/** Keeps the focus, and waits while its reader selects text in it. */
function replace({ id, markup }) {
  const section = document.getElementById(id);
  const selection = getSelection();
  if (section === null || (selection?.isCollapsed === false && section.contains(selection.anchorNode)))
    return;
  const focused = section.contains(document.activeElement)
    ? document.activeElement.getAttribute('href')
    : null;
  section.innerHTML = markup;
  if (focused !== null) section.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}

/** Adds to the log, which scrolls along if its end was in view. Its beginning goes when it is too long. */
function append(markup) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const piece = document.createElement('span');
  piece.innerHTML = markup;
  log.append(piece);
  while (log.textContent.length > LOG_CHARACTERS && log.childElementCount > 1) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

// The end says how it stands.
if (log !== null) log.scrollTop = log.scrollHeight;
if (path !== undefined) {
  // Browsers open few connections to one host: pages that are not looked at need none.
  document.addEventListener('visibilitychange', () => (document.hidden ? disconnect() : connect()));
  connect();
}
