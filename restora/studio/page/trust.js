/** Trust: what a result kept of its input, and what it made up. */

import * as api from './api.js';
import { button, byId, fill, h } from './dom.js';
import { number } from './format.js';
import { news, problem } from './notes.js';
import { hasMap, keepMap } from './scene.js';
import { follow, modelNamed, set, shownJob, state } from './state.js';

/** @type {Map<string, any>} what was measured, by job; null while it is being measured */
const known = new Map();

/** @param {number|null} value @param {number} [digits] */
const told = (value, digits = 2) => (value === null || value === undefined ? 'not known' : number(value, digits));

/** For a column, with as many digits in each row. @param {number|null} value @param {number} digits */
const exactly = (value, digits) => (value === null ? 'not known' : value.toFixed(digits));

/** @param {string} name @param {string} value @param {string} [sentence] */
const fact = (name, value, sentence) => h('div', {}, h('dt', {}, name), h('dd', {}, value, sentence && h('span', { class: 'hint' }, sentence)));

/** @param {string} id */
async function measure(id) {
  known.set(id, null);
  show();
  try {
    known.set(id, { trust: await api.trust(id) });
  } catch (error) {
    known.set(id, { error: /** @type {Error} */ (error).message });
  }
  show();
}

/** @param {any} trust */
function scores(trust) {
  const rows = [
    ['NIQE', 'niqe', 'lower looks more natural', 2],
    ['Sharpness', 'sharpness', 'higher is sharper', 3],
    ['Noise, σ', 'noise', 'of 255', 2],
  ];
  return h(
    'table',
    {},
    h('caption', {}, 'Scores that need no reference'),
    h('thead', {}, h('tr', {}, ['Score', 'Before', 'After'].map((title) => h('th', { scope: 'col' }, title)))),
    h('tbody', {}, rows.map(([name, key, meaning, digits]) => h('tr', {}, h('th', { scope: 'row' }, name, ' ', h('span', { class: 'hint' }, meaning)), h('td', {}, exactly(trust.before[key], digits)), h('td', {}, exactly(trust.after[key], digits))))),
  );
}

/** @param {import('./state.js').Job} job @param {any} trust */
function panel(job, trust) {
  const { consistency, colour_drift: drift } = trust;
  const marked = state.marked === job.id;
  return [
    h('p', { class: 'advice' }, trust.sentence),
    h(
      'dl',
      { class: 'facts' },
      fact('Consistency', consistency.psnr === null ? 'not known' : `${number(consistency.psnr, 1)} dB`, consistency.sentence),
      fact('Colour drift', `ΔE ${told(drift.delta_e)}`, `red ${told(drift.red)}, green ${told(drift.green)}, blue ${told(drift.blue)}`),
      fact('Unconfirmed detail', `${number(trust.invented * 100, 1)} % of the pixels`, 'what the input does not confirm'),
    ),
    h(
      'label',
      { class: 'check' },
      h('input', { type: 'checkbox', checked: marked, on: { change: (/** @type {Event} */ event) => mark(job.id, trust, /** @type {any} */ (event.target).checked) } }),
      'Mark unconfirmed detail on the picture',
    ),
    scores(trust),
    h('p', { class: 'hint' }, `Measured on ${trust.region.w} × ${trust.region.h} pixels of the input, degraded again by: ${consistency.model}.`),
  ];
}

/** @param {string} id @param {any} trust @param {boolean} on */
async function mark(id, trust, on) {
  if (!on) return set({ marked: null });
  if (hasMap(id)) return set({ marked: id, mode: state.mode === 'difference' ? 'split' : state.mode });
  try {
    keepMap(id, await api.trustMap(id), trust.region);
  } catch (error) {
    news(/** @type {Error} */ (error).message);
    set({ marked: null });
    show();
  }
}

function show() {
  const place = byId('trust-content');
  const job = shownJob();
  byId('no-trust').hidden = Boolean(job);
  if (!job) return fill(place);
  const found = known.get(job.id);
  const title = h('h3', {}, `${job.name}, ${modelNamed(job.model)?.title ?? job.model}`);
  if (found?.trust) fill(place, title, panel(job, found.trust));
  else if (found?.error) fill(place, title, problem(found.error), button({ label: 'Measure again', class: 'small', click: () => measure(job.id) }));
  else {
    fill(place, title, h('p', { class: 'hint busy', role: 'status' }, 'Measuring…'));
    if (found === undefined && state.panel === 'trust') measure(job.id);
  }
}

export function attachTrust() {
  let last = '';
  follow(['shown', 'jobs', 'panel', 'models', 'marked'], () => {
    const key = JSON.stringify([shownJob()?.id, state.panel === 'trust', state.models.length, state.marked]);
    if (key === last) return;
    const focused = byId('trust-content').contains(document.activeElement) && /** @type {any} */ (document.activeElement).type === 'checkbox';
    last = key;
    show();
    if (focused) byId('trust-content').querySelector('input')?.focus();
  });
}
