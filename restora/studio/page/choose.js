/** Choose: the task, the model with what speaks for it, and its controls. */

import * as api from './api.js';
import { showControls } from './controls.js';
import { byId, fill, h, setText, uid } from './dom.js';
import { bytes, count, duration, number, parameters } from './format.js';
import { news, problem } from './notes.js';
import { asked } from './requests.js';
import { chosenFile, chosenModel, follow, missing, on, set, state } from './state.js';

/** @typedef {import('./state.js').Model} Model */

const SYNONYMS = ['jpeg', 'jpe', 'jfif', 'tiff', 'dib']; // suffixes of formats that stand in the list already
const FOLDED = 3; // models above which only the chosen one is shown at once

/** Chooses a task; the model is the one used last for it, or the task's own. @param {string} name */
function chooseTask(name) {
  const own = state.models.filter((model) => model.task === name && model.installed);
  const task = state.tasks.find((t) => t.name === name);
  if (own.some((model) => model.name === state.model)) return set({ task: name });
  set({ task: name, model: task?.model ?? own[0]?.name ?? null, shown: 'preview', compared: [] });
}

/** A task and model that fit the picture, when none was chosen. */
function settle() {
  if (!state.tasks.length || !state.models.length) return;
  const look = chosenFile()?.look;
  if (!state.task || !state.tasks.some((task) => task.name === state.task)) {
    const suggested = state.tasks.find((task) => task.name === look?.task && task.model);
    chooseTask((suggested ?? state.tasks.find((task) => task.model) ?? state.tasks[0]).name);
  } else if (chosenModel()?.task !== state.task) chooseTask(state.task);
}

function showTasks() {
  const task = state.tasks.find((t) => t.name === state.task);
  fill(
    byId('tasks'),
    state.tasks.map((t) =>
      h('label', {}, h('input', { type: 'radio', name: 'task', value: t.name, checked: t.name === state.task, on: { change: () => chooseTask(t.name) } }), h('span', {}, t.title)),
    ),
  );
  setText(byId('task-advice'), task?.advice ?? '');
}

/** Speed and memory in words. @param {Model} model */
function costs(model) {
  const speed = model.seconds_per_megapixel === null ? 'speed not measured yet' : `${duration(model.seconds_per_megapixel)} per megapixel here`;
  const memory = model.memory === null ? null : `${bytes(model.memory)} memory`;
  const said = [speed, memory, model.parameters > 0 ? parameters(model.parameters) : 'no weights', model.licence].filter((text) => text);
  return said.map((text, n) => [n > 0 && ' · ', h('span', { class: 'nowrap' }, text)]);
}

/** @param {Model} model */
function card(model) {
  const id = uid('model');
  const chosen = model.name === state.model;
  const input = h('input', {
    type: 'radio', name: 'model', id, value: model.name, checked: chosen, disabled: !model.installed,
    'aria-describedby': `${id}-advice`,
    on: { change: () => set({ model: model.name, shown: 'preview' }) },
  });
  const compare = h('input', {
    type: 'checkbox', checked: state.compared.includes(model.name), 'aria-label': `Compare ${model.title}`,
    on: {
      change: () => {
        const others = state.compared.filter((name) => name !== model.name);
        set(compare.checked ? { compared: [...others, model.name].slice(-5), mode: 'side', flipped: false } : { compared: others });
      },
    },
  });
  return h(
    'li',
    { class: `model${chosen ? ' chosen' : ''}`, data: { model: model.name } },
    h(
      'div',
      { class: 'row' },
      h('label', { class: 'title' }, input, h('span', {}, model.title)),
      model.installed ? h('label', { class: 'check hint' }, compare, 'compare') : h('span', { class: 'hint' }, 'not installed'),
    ),
    h('p', { class: 'advice', id: `${id}-advice` }, model.advice),
    h('p', { class: 'hint' }, costs(model)),
    chosen && model.limits && h('details', {}, h('summary', {}, 'What it cannot do'), h('p', { class: 'hint' }, model.limits)),
  );
}

function showModels() {
  const focused = /** @type {any} */ (document.activeElement)?.closest?.('#models')
    ? [/** @type {any} */ (document.activeElement).type, /** @type {any} */ (document.activeElement).closest('li').dataset.model]
    : null;
  const own = state.models.filter((model) => model.task === state.task);
  const installed = own.filter((model) => model.installed);
  const absent = own.filter((model) => !model.installed);
  // a long list hides the settings below it: the chosen one first, the others behind a fold
  const folded = installed.length > FOLDED ? installed.filter((model) => model.name !== state.model) : [];
  const open = byId('models').querySelector('details.others')?.open;
  fill(
    byId('models'),
    installed.filter((model) => !folded.includes(model)).map(card),
    folded.length > 0 &&
      h('li', {}, h('details', { class: 'others', open: open || null }, h('summary', {}, count(folded.length, 'other model')), h('ul', { class: 'plain' }, folded.map(card)))),
    !installed.length && h('li', { class: 'hint' }, 'No model for this task is installed; “restora models” in a terminal lists and fetches them.'),
    absent.length > 0 && h('li', {}, h('details', {}, h('summary', {}, `${count(absent.length, 'model')} not installed`), h('ul', { class: 'plain' }, absent.map(card)))),
  );
  if (focused) byId('models').querySelector(`li[data-model="${CSS.escape(focused[1])}"] input[type=${focused[0]}]`)?.focus();
}

function showEstimate() {
  const [file, model] = [chosenFile(), chosenModel()];
  const speed = model?.seconds_per_megapixel;
  const scope = scopeFiles();
  const pixels = scope.reduce((sum, f) => sum + f.width * f.height, 0) / 1e6;
  const text = !file
    ? 'Open a picture first.'
    : !model
      ? 'Choose a model first.'
      : speed === null || speed === undefined
        ? 'The time is known after the first run.'
        : `About ${duration(speed * pixels)} on this machine.`;
  setText(byId('estimate'), text);
  byId('run').disabled = !file || !model?.installed;
}

const scopeFiles = () => (byId('scope').value === 'all' ? state.files : [chosenFile()].filter((file) => file !== null));

function showScope() {
  const scope = byId('scope');
  const many = state.files.length > 1;
  if (!many) scope.value = 'one';
  scope.options[1].disabled = !many;
  setText(scope.options[1], many ? `All ${state.files.length} pictures` : 'All pictures');
}

/** Queues the whole picture, or all. @param {{controls: Record<string, any>}[]} [variants] */
export async function restore(variants = []) {
  const [model, place] = [chosenModel(), byId('run-problem')];
  const files = scopeFiles();
  if (!model || !files.length) return;
  const absent = missing(model);
  if (absent) {
    fill(place, problem(absent.type === 'kernel' ? `${model.title} needs a kernel: give one above.` : `${model.title} needs a value for “${absent.name}”.`));
    return;
  }
  byId('run').disabled = true;
  try {
    const body = { ...(await asked(model.name)), files: files.map((file) => file.id), format: state.format, variants };
    const jobs = /** @type {import('./state.js').Job[]} */ (await api.createJobs(body));
    const known = new Set(jobs.map((job) => job.id));
    set({ jobs: [...state.jobs.filter((job) => !known.has(job.id)), ...jobs], awaited: jobs.find((job) => job.file === state.file)?.id ?? null });
    fill(place);
    news(`${count(jobs.length, 'job')} queued.`);
  } catch (error) {
    fill(place, problem(/** @type {Error} */ (error).message));
  }
  byId('run').disabled = false;
}

function attachRun() {
  byId('run').addEventListener('click', () => restore());
  byId('scope').addEventListener('change', showEstimate);
  const format = byId('format');
  follow(['about'], () => {
    const names = (state.about?.formats_written ?? []).map((/** @type {string} */ suffix) => suffix.replace('.', '')).filter((/** @type {string} */ name) => !SYNONYMS.includes(name));
    fill(format, h('option', { value: 'auto' }, 'as the input'), names.map((/** @type {string} */ name) => h('option', { value: name }, name.toUpperCase())));
    format.value = names.includes(state.format) ? state.format : 'auto';
  });
  format.addEventListener('change', () => set({ format: format.value }));
}

/** The strength of the whole: how much of the result is mixed with the input. */
function attachBlend() {
  const slider = byId('blend');
  slider.addEventListener('input', () => set({ blend: Number(slider.value) / 100, shown: 'preview' }));
  follow(['blend'], () => {
    slider.value = String(Math.round(state.blend * 100));
    setText(byId('blend-value'), `${Math.round(state.blend * 100)} %`);
    slider.setAttribute('aria-valuetext', `${Math.round(state.blend * 100)} percent of the result`);
  });
}

/** @param {import('./preview.js').LivePreview} preview */
function attachVariants(preview) {
  const [select, from, to, many] = ['variant-control', 'variant-from', 'variant-to', 'variant-count'].map(byId);
  let drawn = '';
  const control = () => chosenModel()?.controls.find((c) => c.name === select.value) ?? null;
  const wanted = () => {
    const c = control();
    if (!c) return [];
    if (c.type === 'choice') return c.choices.map((choice) => ({ label: choice, controls: { [c.name]: choice } }));
    if (c.type === 'boolean') return [false, true].map((v) => ({ label: v ? 'on' : 'off', controls: { [c.name]: v } }));
    const [low, high, n] = [Number(from.value), Number(to.value), Math.min(8, Math.max(2, Number(many.value) || 2))];
    const values = Array.from({ length: n }, (_, k) => low + ((high - low) * k) / (n - 1)).map((v) => (c.type === 'integer' ? Math.round(v) : Number(v.toPrecision(4))));
    return [...new Set(values)].map((v) => ({ label: number(v, 3), controls: { [c.name]: v } }));
  };
  const range = () => {
    const c = control();
    const numeric = c?.type === 'number' || c?.type === 'integer';
    byId('variant-range').hidden = !numeric;
    if (!c || !numeric) return;
    const seed = c.name === 'seed';
    from.value = String(seed ? 0 : (c.min ?? 0));
    to.value = String(seed ? 3 : (c.max ?? (Number(c.default) || 1) * 2));
  };
  follow(['model', 'models', 'task'], () => {
    const model = chosenModel();
    const key = JSON.stringify([model?.name, model?.controls.length]);
    if (key === drawn) return;
    drawn = key;
    const able = (model?.controls ?? []).filter((c) => ['number', 'integer', 'boolean', 'choice'].includes(c.type));
    fill(select, able.map((c) => h('option', { value: c.name }, c.name.replace(/^options\./, '').replaceAll('_', ' '))));
    byId('variants').hidden = !able.length;
    range();
  });
  select.addEventListener('change', range);
  byId('variant-preview').addEventListener('click', () => preview.variants(wanted()));
  byId('variant-run').addEventListener('click', () => restore(wanted().map(({ controls }) => ({ controls }))));
}

/** @param {import('./preview.js').LivePreview} preview */
export function attachChoose(preview) {
  follow(['tasks', 'models', 'file', 'files', 'task'], settle);
  follow(['tasks', 'task'], showTasks);
  follow(['models', 'task', 'model', 'compared'], showModels);
  follow(['file', 'files', 'model', 'models'], () => {
    showScope();
    showEstimate();
  });
  let refresh = () => {};
  let drawn = '';
  follow(['model', 'models'], () => {
    const model = chosenModel();
    const key = JSON.stringify([model?.name, model?.controls]);
    if (key === drawn) return;
    drawn = key;
    refresh = showControls(byId('controls'), model);
  });
  on(['values', 'kernels', 'strokes', 'file'], () => refresh());
  byId('reset').addEventListener('click', () => state.model && set({ values: { ...state.values, [state.model]: {} }, blend: 1, shown: 'preview' }));
  byId('live').addEventListener('change', () => set({ live: byId('live').checked }));
  on(['values', 'model', 'file'], () => fill(byId('run-problem')));
  follow(['live'], () => (byId('live').checked = state.live));
  byId('preview-now').addEventListener('click', () => {
    set({ shown: 'preview' });
    preview.run();
  });
  attachBlend();
  attachVariants(preview);
  attachRun();
}
