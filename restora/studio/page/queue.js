/** Work: the queue as it is, and what can be done with its jobs. */

import * as api from './api.js';
import { button, byId, fill, h, keyed, setText } from './dom.js';
import { bytes, count, duration, size } from './format.js';
import { choose } from './files.js';
import { copy, news } from './notes.js';
import { follow, modelNamed, on, set, state } from './state.js';

/** @typedef {import('./state.js').Job} Job */

const WORDS = { queued: 'waiting', running: 'at work', paused: 'paused', done: 'done', failed: 'failed', cancelled: 'cancelled' };
const SHOWN = 60; // jobs; more at a wish

/** @type {Set<string>} jobs that were ticked for the download */
const ticked = new Set();
let all = false;

/** Takes in what the server says of a job. @param {Job} job */
export function update(job) {
  const jobs = state.jobs.some((other) => other.id === job.id)
    ? state.jobs.map((other) => (other.id === job.id ? { ...job, position: job.position ?? other.position } : other))
    : [...state.jobs, job];
  set({ jobs });
}

/** Asks the server for something and shows what came of it. @param {Promise<any>} asked @param {string} [done] */
async function act(asked, done = '') {
  try {
    const answer = await asked;
    if (answer?.state) update(answer);
    if (answer && 'paused' in answer) set({ queue: answer });
    if (done) news(done);
  } catch (error) {
    news(/** @type {Error} */ (error).message);
  }
}

/** @param {Job} job */
function status(job) {
  if (job.state === 'running') {
    const left = job.seconds_left === null ? '' : `, ${duration(job.seconds_left)} left`;
    return `${Math.round(job.progress * 100)} %${left}`;
  }
  if (job.state === 'queued' && job.position) return job.position === 1 ? 'next' : `waiting, number ${job.position}`;
  if (job.state === 'done' && job.result) return `${size(job.result.width, job.result.height)}, ${bytes(job.result.bytes)}`;
  return WORDS[job.state];
}

/** What can be done with a job in its state. @param {Job} job */
function actions(job) {
  const verbs = { queued: ['pause', 'cancel'], running: ['pause', 'cancel'], paused: ['resume', 'cancel'], failed: ['retry'], cancelled: ['retry'], done: [] }[job.state];
  const drawings = { pause: 'pause', resume: 'play', cancel: 'close', retry: 'retry' };
  const titles = { pause: 'Pause', resume: 'Resume', cancel: 'Cancel', retry: 'Retry' };
  const found = verbs.map((verb) => button({ label: `${titles[verb]} ${job.name}`, icon: drawings[verb], text: titles[verb], class: 'small', data: { verb }, click: () => act(api.jobVerb(job.id, /** @type {any} */ (verb))) }));
  if (job.state === 'done') {
    found.push(
      button({ label: `Show ${job.name}`, icon: 'result', text: 'Show', class: 'small', data: { verb: 'show' }, disabled: !state.files.some((file) => file.id === job.file), click: () => show(job) }),
      h('a', { class: 'button small', href: api.resultPath(job.id), download: job.result?.name ?? true, 'aria-label': `Download ${job.result?.name}` }, 'Download'),
    );
  }
  if (['done', 'failed', 'cancelled'].includes(job.state)) {
    found.push(button({ label: `Remove ${job.name} from the queue`, icon: 'trash', class: 'quiet', data: { verb: 'remove' }, click: () => remove(job) }));
  }
  return found;
}

/** @param {Job} job */
function show(job) {
  choose(job.file);
  set({ shown: job.id, flipped: false, panel: matchMedia('(max-width: 800px)').matches ? '' : state.panel });
}

/** @param {Job} job */
async function remove(job) {
  try {
    await api.removeJob(job.id);
    gone(job.id);
  } catch (error) {
    news(/** @type {Error} */ (error).message);
  }
}

/** Forgets a job. @param {string} id */
export function gone(id) {
  ticked.delete(id);
  set({ jobs: state.jobs.filter((job) => job.id !== id), pinned: state.pinned.filter((other) => other !== id), ...(state.shown === id ? { shown: 'preview' } : {}) });
}

/** The lines that do the same elsewhere. @param {Job} job */
function recipe(job) {
  const block = (/** @type {string} */ title, /** @type {string} */ text) =>
    h('div', { class: 'recipe' }, h('div', { class: 'row' }, h('span', { class: 'label' }, title), button({ label: `Copy the ${title.toLowerCase()}`, icon: 'copy', text: 'Copy', class: 'small', click: () => copy(text) })), h('pre', { tabindex: '0' }, h('code', {}, text)));
  return h(
    'details',
    {},
    h('summary', {}, 'How it was made'),
    job.command ? block('Command line', job.command) : h('p', { class: 'hint' }, 'No command line does this; the Python lines do.'),
    block('Python lines', job.python),
    job.report?.notes?.length > 0 && h('ul', { class: 'plain hint' }, job.report.notes.map((/** @type {string} */ note) => h('li', {}, note))),
  );
}

/** @param {Job} first */
function row(first) {
  const name = h('span', { class: 'name' });
  const line = h('span', { class: 'hint' });
  const bar = h('progress', { max: '1', 'aria-label': `Progress of ${first.name}` });
  const buttons = h('div', { class: 'row start wrap' });
  const more = h('div');
  const failure = h('p', { class: 'problem' });
  const tick = h('input', { type: 'checkbox', 'aria-label': `Choose ${first.name} for the download`, on: { change: () => { tick.checked ? ticked.add(first.id) : ticked.delete(first.id); showHead(); } } });
  const element = h('li', { class: 'job' }, h('div', { class: 'row' }, tick, h('div', { class: 'text' }, name, line)), bar, failure, buttons, more);
  let drawn = '';
  element.update = (/** @type {Job} */ job) => {
    setText(name, job.name);
    setText(line, `${modelNamed(job.model)?.title ?? job.model} · ${status(job)}`);
    bar.hidden = !['running', 'paused'].includes(job.state);
    bar.value = job.progress;
    tick.disabled = job.state !== 'done';
    tick.checked = ticked.has(job.id);
    failure.hidden = !job.error;
    setText(failure, job.error);
    element.dataset.state = job.state;
    const key = JSON.stringify([job.state, job.command, job.python, job.result, state.files.some((file) => file.id === job.file)]);
    if (key === drawn) return;
    drawn = key;
    const verb = /** @type {any} */ (document.activeElement)?.dataset?.verb;
    const focused = buttons.contains(document.activeElement);
    fill(buttons, actions(job));
    // the button that was pressed is gone with the state: its successor takes the focus
    if (focused) (buttons.querySelector(`[data-verb="${verb}"]`) ?? buttons.firstElementChild)?.focus();
    const open = more.querySelector('details')?.open;
    fill(more, recipe(job));
    if (open) /** @type {any} */ (more.firstElementChild).open = true;
  };
  return element;
}

function showHead() {
  const { queue, jobs } = state;
  const busy = jobs.filter((job) => ['queued', 'running', 'paused'].includes(job.state)).length;
  const done = jobs.filter((job) => job.state === 'done');
  setText(byId('queue-status'), jobs.length ? `${count(busy, 'job')} to do, ${done.length} done${queue.paused ? '; the queue is paused' : ''}.` : '');
  const hold = byId('queue-hold');
  hold.hidden = !busy && !queue.paused;
  setText(hold.lastElementChild, queue.paused ? 'Resume the queue' : 'Pause the queue');
  hold.querySelector('use').setAttribute('href', `icons.svg#${queue.paused ? 'play' : 'pause'}`);
  const chosen = done.filter((job) => ticked.has(job.id)).length;
  const fetch = byId('queue-download');
  fetch.hidden = !done.length;
  setText(fetch.lastElementChild, chosen ? `Download ${chosen} chosen` : `Download all ${done.length}`);
  const badge = byId('queue-badge');
  badge.hidden = !busy;
  setText(badge, String(busy));
}

function showJobs() {
  const rank = { running: 0, paused: 1, queued: 2, failed: 3, cancelled: 4, done: 5 };
  const first = (/** @type {Job} */ job) => Math.min(rank[job.state], 3);
  const jobs = [...state.jobs].sort((a, b) => first(a) - first(b) || (first(a) < 3 ? a.created - b.created : b.created - a.created));
  keyed(byId('jobs'), all ? jobs : jobs.slice(0, SHOWN), (job) => job.id, row);
  byId('jobs-more').hidden = all || jobs.length <= SHOWN;
  setText(byId('jobs-more'), `Show all ${jobs.length} jobs`);
  byId('no-jobs').hidden = jobs.length > 0;
  showHead();
}

async function download() {
  const done = state.jobs.filter((job) => job.state === 'done');
  const chosen = done.filter((job) => ticked.has(job.id));
  const fetch = byId('queue-download');
  fetch.disabled = true;
  try {
    const blob = await api.bundle((chosen.length ? chosen : done).map((job) => job.id));
    const address = URL.createObjectURL(blob);
    h('a', { href: address, download: 'restored.zip' }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (error) {
    news(/** @type {Error} */ (error).message);
  }
  fetch.disabled = false;
}

/** Everything anew from the server: at the start, and after the connection was lost. */
export async function refresh() {
  const [jobs, queue] = await Promise.all([api.jobs(), api.queue()]);
  set({ jobs, queue });
}

/** Shows the result that the user waits for, as soon as it is there. */
function deliver() {
  const job = state.jobs.find((other) => other.id === state.awaited);
  if (!job || ['queued', 'running', 'paused'].includes(job.state)) return;
  set({ awaited: null });
  if (job.state === 'failed') news(job.error);
  if (job.state !== 'done') return;
  news(`“${job.name}” is done.`);
  if (state.file === job.file && state.shown === 'preview') set({ shown: job.id });
}

export function attachQueue() {
  follow(['jobs', 'queue', 'models', 'files'], showJobs);
  on(['jobs'], deliver);
  byId('queue-hold').addEventListener('click', () => act(api.queueVerb(state.queue.paused ? 'resume' : 'pause')));
  byId('queue-download').addEventListener('click', download);
  byId('jobs-more').addEventListener('click', () => {
    all = true;
    showJobs();
  });
}
