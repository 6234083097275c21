/** What the page knows, and who wants to hear of changes. */

/**
 * @typedef {{name: string, type: 'number'|'integer'|'boolean'|'choice'|'kernel'|'regions', default: any, min: number|null,
 *     max: number|null, step: number|null, choices: string[], description: string, spatial: boolean, auto: boolean,
 *     required: boolean, advanced: boolean}} Control
 * @typedef {{name: string, title: string, task: string, advice: string, limits: string, licence: string, scales: number[],
 *     parameters: number, bundled: boolean, installed: boolean, default: boolean, needs_kernel: boolean,
 *     seconds_per_megapixel: number|null, memory: number|null, controls: Control[]}} Model
 * @typedef {{name: string, title: string, advice: string, model: string|null, models: number}} Task
 * @typedef {{noise: number|null, blur: number|null, jpeg_quality: number|null, size: string, advice: string,
 *     task: string|null, notes: string[]}} Look
 * @typedef {{id: string, name: string, format: string, width: number, height: number, bit_depth: number, channels: number,
 *     alpha: boolean, profile: string, bytes: number, shared: boolean, notes: string[], look: Look|null}} File
 * @typedef {{id: string, file: string, name: string, model: string, task: string, controls: Record<string, any>,
 *     mask: string|null, blend: number, state: 'queued'|'running'|'paused'|'done'|'failed'|'cancelled', progress: number,
 *     seconds_left: number|null, position: number|null, created: number, error: string, report: Record<string, any>,
 *     command: string, python: string,
 *     result: {width: number, height: number, bytes: number, name: string, format: string}|null}} Job
 * @typedef {{x: number, y: number, w: number, h: number}} Crop
 * @typedef {{image: ImageBitmap, crop: Crop, seconds: number, notes: string[], file: string, model: string}} Preview
 * @typedef {'split'|'side'|'difference'|'result'} Mode
 */

const initial = {
  about: /** @type {any} */ (null),
  tasks: /** @type {Task[]} */ ([]),
  models: /** @type {Model[]} */ ([]),
  files: /** @type {File[]} */ ([]),
  jobs: /** @type {Job[]} */ ([]),
  queue: { paused: false, queued: 0, running: 0 },
  connected: true,
  /** the chosen picture, task and model */
  file: /** @type {string|null} */ (null),
  task: /** @type {string|null} */ (null),
  model: /** @type {string|null} */ (null),
  /** what the user set, by model and control; what is not there is the default */
  values: /** @type {Record<string, Record<string, any>>} */ ({}),
  /** the kernels that were made, by id */
  kernels: /** @type {Record<string, {id: string, text: string, size: string, estimated: boolean, warnings: string[]}>} */ ({}),
  blend: 1,
  format: 'auto',
  /** models beside the chosen one in the side-by-side view, and finished jobs likewise */
  compared: /** @type {string[]} */ ([]),
  pinned: /** @type {string[]} */ ([]),
  /** what stands on the right of the divider: the preview, or the result of a job */
  shown: /** @type {string} */ ('preview'),
  /** the job whose result is shown as soon as it is there */
  awaited: /** @type {string|null} */ (null),
  mode: /** @type {Mode} */ ('split'),
  flipped: false,
  live: true,
  preview: /** @type {Preview|null} */ (null),
  previewState: { busy: false, error: '' },
  comparisons: /** @type {Record<string, Preview|{error: string}>} */ ({}),
  /** the tool on the picture, and the mask it paints: 'mask', or a control's name */
  tool: /** @type {'pan'|'brush'|'motion'} */ ('pan'),
  painting: 'mask',
  /** counts strokes, so that what depends on masks can follow */
  strokes: 0,
  /** the job whose invented detail is marked on the picture */
  marked: /** @type {string|null} */ (null),
  variants: /** @type {{label: string, controls: Record<string, any>, preview: Preview|null, error: string}[]} */ ([]),
  panel: 'restore',
};

/** @typedef {typeof initial} State */

/** The one state of the page: read `state.x`, write through `set`. @type {State} */
export const state = { ...initial };

/** @type {Set<{keys: string[], listener: (changed: Set<string>) => void}>} */
const listeners = new Set();
let pending = /** @type {Set<string>|null} */ (null);

/** Changes the state; listeners hear of it once, after the current turn. @param {Partial<State>} patch */
export function set(patch) {
  for (const [key, value] of Object.entries(patch)) {
    if (/** @type {any} */ (state)[key] === value) continue;
    /** @type {any} */ (state)[key] = value;
    if (!pending) {
      pending = new Set();
      queueMicrotask(tell);
    }
    pending.add(key);
  }
}

function tell() {
  const changed = pending ?? new Set();
  pending = null;
  for (const { keys, listener } of listeners) if (keys.some((key) => changed.has(key))) listener(changed);
}

/** Calls `listener` now and whenever one of the keys changes. @param {(keyof State)[]} keys @param {() => void} listener */
export function follow(keys, listener) {
  listeners.add({ keys, listener });
  listener();
}

/** Calls `listener` whenever one of the keys changes. @param {(keyof State)[]} keys @param {(changed: Set<string>) => void} listener */
export function on(keys, listener) {
  listeners.add({ keys, listener });
}

// what is derived

export const chosenFile = () => state.files.find((file) => file.id === state.file) ?? null;
export const chosenModel = () => state.models.find((model) => model.name === state.model) ?? null;
/** @param {string} name */
export const modelNamed = (name) => state.models.find((model) => model.name === name) ?? null;
export const shownJob = () => state.jobs.find((job) => job.id === state.shown && job.state === 'done') ?? null;
/** Finished jobs of the chosen picture, the oldest first. */
export const results = () =>
  state.jobs.filter((job) => job.file === state.file && job.state === 'done' && job.result).sort((a, b) => a.created - b.created);

/** Stands for the id of the mask that is painted for a control, until a request is made. */
export const PAINTED = '(painted map)';

/** The values that a request carries: what was set and differs from the default. @param {string} name @returns {Record<string, any>} */
export function settings(name) {
  const model = modelNamed(name);
  return Object.fromEntries(
    Object.entries(state.values[name] ?? {}).filter(([key, value]) => {
      const control = model?.controls.find((c) => c.name === key);
      return control && value !== undefined && value !== control.default;
    }),
  );
}

/** What a control is set to now. @param {string} model @param {Control} control */
export function valueOf(model, control) {
  const value = state.values[model]?.[control.name];
  return value === undefined ? control.default : value;
}

/** Sets a control of a model. @param {string} model @param {string} name @param {any} value */
export function setValue(model, name, value) {
  const others = state.values[model] ?? {};
  set({ values: { ...state.values, [model]: { ...others, [name]: value } }, shown: 'preview' });
}

/** The first control that has to be set and is not. @param {Model} model */
export function missing(model) {
  return model.controls.find((c) => c.required && (valueOf(model.name, c) === null || valueOf(model.name, c) === undefined)) ?? null;
}

// what a reload keeps

const KEPT = ['file', 'task', 'model', 'values', 'kernels', 'blend', 'format', 'mode', 'live', 'panel', 'shown'];

/** Brings back what the last visit in this tab had chosen. */
export function recall() {
  try {
    set(JSON.parse(sessionStorage.getItem('restora') ?? '{}'));
  } catch {
    sessionStorage.removeItem('restora');
  }
  on(/** @type {any} */ (KEPT), () => {
    const kept = Object.fromEntries(KEPT.map((key) => [key, /** @type {any} */ (state)[key]]));
    sessionStorage.setItem('restora', JSON.stringify(kept));
  });
}
