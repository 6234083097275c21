/** The strip below the picture: the input, the preview, variants to pick from, and the results so far. */

import * as api from './api.js';
import { byId, h, keyed, setText } from './dom.js';
import { duration, label, value as shown } from './format.js';
import { chosenFile, follow, modelNamed, results, set, state } from './state.js';

const HEIGHT = 56; // of a thumbnail, CSS pixels

/** What of a job's controls says how it differs. @param {Record<string, any>} controls */
const told = (controls) =>
  Object.entries(controls)
    .filter(([, value]) => value !== null && !(typeof value === 'string' && /^[km]-/.test(value)))
    .map(([name, value]) => `${label(name.replace(/^options\./, ''))} ${shown(value)}`)
    .join(', ');

/** @param {any} thumbnail @param {() => void} pick */
function tile(thumbnail, pick) {
  const title = h('span', { class: 'name' });
  const line = h('span', { class: 'hint' });
  const choose = h('button', { type: 'button', class: 'pick', on: { click: pick } }, thumbnail, h('span', { class: 'text' }, title, line));
  return { choose, title, line };
}

/** The thumbnail of an image in memory. @param {ImageBitmap} image */
function drawn(image) {
  const canvas = h('canvas', { 'aria-hidden': 'true' });
  canvas.height = HEIGHT * 2;
  canvas.width = Math.min(4 * HEIGHT, Math.max(1, Math.round((image.width / image.height) * canvas.height)));
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** @param {any} item */
function previewTile(item) {
  const place = h('span', { class: 'thumb' });
  const { choose, title, line } = tile(place, () => set({ shown: 'preview', flipped: false, mode: state.mode === 'side' ? 'side' : state.mode }));
  const element = h('li', {}, choose);
  setText(title, 'Preview');
  let image = /** @type {any} */ (null);
  element.update = () => {
    const { preview, previewState } = state;
    if (preview && preview.image !== image) {
      image = preview.image;
      place.replaceChildren(drawn(image));
    } else if (!preview && image) {
      image = null;
      place.replaceChildren();
    }
    setText(line, previewState.busy ? 'working…' : preview ? duration(preview.seconds) : 'none yet');
    choose.setAttribute('aria-pressed', String(state.shown === 'preview'));
  };
  return element;
}

/** @param {{index: number}} item */
function variantTile(item) {
  const place = h('span', { class: 'thumb' });
  const { choose, title, line } = tile(place, () => pick(item.index));
  const element = h('li', { class: 'variant' }, choose);
  let image = /** @type {any} */ (null);
  element.update = (/** @type {{index: number}} */ { index }) => {
    const variant = state.variants[index];
    item.index = index;
    setText(title, variant.label);
    setText(line, variant.error || (variant.preview ? duration(variant.preview.seconds) : 'to come'));
    line.title = variant.error;
    if (variant.preview && variant.preview.image !== image) {
      image = variant.preview.image;
      place.replaceChildren(drawn(image));
    }
    const values = state.values[state.model ?? ''] ?? {};
    choose.disabled = !variant.preview;
    choose.setAttribute('aria-label', `Pick the variant ${variant.label}`);
    choose.setAttribute('aria-pressed', String(state.shown === 'preview' && Object.entries(variant.controls).every(([name, value]) => values[name] === value)));
  };
  return element;
}

/** Takes a variant's controls over; its preview stands until the next. @param {number} index */
function pick(index) {
  const { controls, preview } = state.variants[index];
  const model = state.model ?? '';
  set({ values: { ...state.values, [model]: { ...state.values[model], ...controls } }, preview: preview ?? state.preview, shown: 'preview' });
}

/** @param {{job: import('./state.js').Job}} item */
function resultTile({ job }) {
  const image = h('img', { alt: '', loading: 'lazy', height: String(HEIGHT), src: api.jobPath(job.id, 'image', { max: 160 }) });
  const { choose, title, line } = tile(h('span', { class: 'thumb' }, image), () => set({ shown: job.id, flipped: false, tool: 'pan' }));
  const name = modelNamed(job.model)?.title ?? job.model;
  const pin = h('input', {
    type: 'checkbox', 'aria-label': `Compare the result of ${name}`,
    on: {
      change: () => {
        const others = state.pinned.filter((id) => id !== job.id);
        set(pin.checked ? { pinned: [...others, job.id].slice(-5), mode: 'side', flipped: false } : { pinned: others });
      },
    },
  });
  const element = h('li', {}, choose, h('label', { class: 'check hint', title: 'Show it side by side' }, pin, h('span', {}, 'compare')));
  element.update = () => {
    setText(title, name);
    setText(line, told(job.controls) || `${job.result?.width} × ${job.result?.height}`);
    line.title = told(job.controls);
    pin.checked = state.pinned.includes(job.id);
    choose.setAttribute('aria-pressed', String(state.shown === job.id));
  };
  return element;
}

const makers = { preview: previewTile, variant: variantTile, result: resultTile };

export function attachStrip() {
  const list = byId('strip-list');
  follow(['file', 'files', 'preview', 'previewState', 'variants', 'jobs', 'shown', 'pinned', 'values', 'models'], () => {
    const file = chosenFile();
    byId('strip').hidden = !file;
    const items = !file
      ? []
      : [
          { kind: 'preview', key: 'preview' },
          ...state.variants.map((variant, index) => ({ kind: 'variant', key: `variant-${index}-${variant.label}`, index })),
          ...results().map((job) => ({ kind: 'result', key: job.id, job })),
        ];
    keyed(list, items, (item) => item.key, (item) => makers[item.kind](item));
    byId('drop-variants').hidden = !state.variants.length;
    byId('no-results').hidden = results().length + state.variants.length > 0;
  });
  byId('drop-variants').addEventListener('click', () => set({ variants: [] }));
}
