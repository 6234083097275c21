/** The live preview: what the chosen model makes of the part in the middle of the view, again whenever something moves. */

import * as api from './api.js';
import { label } from './format.js';
import { asked } from './requests.js';
import { chosenFile, chosenModel, missing, modelNamed, on, set, state } from './state.js';

const PAUSE = 120; // ms without a change before a preview is asked for
const AIM = 0.8; // seconds that a preview may take, where the speed is known
const SLOW = 6; // seconds above which nothing is previewed unasked
const [LEAST, MOST] = [192, 1024]; // side of the part, in pixels
const USUAL = 512;

/** The part that is previewed: the middle of what is visible, as large as the model's speed allows. */
function part(viewer, model) {
  const seen = viewer.visible();
  if (!seen) return null;
  const speed = model.seconds_per_megapixel;
  const allowed = state.about?.limits.preview_pixels ?? USUAL * USUAL;
  const most = Math.min(MOST, Math.floor(Math.sqrt(allowed)));
  const side = speed ? Math.min(most, Math.max(LEAST, Math.sqrt((AIM / speed) * 1e6))) : USUAL;
  // what is visible, if it is no more than a square of that side in area
  const area = Math.min(side * side, seen.w * seen.h);
  const w = Math.max(1, Math.min(seen.w, Math.round(Math.max(side, area / seen.h))));
  const h = Math.max(1, Math.min(seen.h, Math.floor(area / w)));
  return { x: seen.x + Math.floor((seen.w - w) / 2), y: seen.y + Math.floor((seen.h - h) / 2), w, h };
}

/** How long a preview will take, where the speed is known. @param {import('./state.js').Model} model */
const expected = (model) => (model.seconds_per_megapixel ?? 0) * ((LEAST * LEAST) / 1e6);

export class LivePreview {
  /** @param {import('./viewer.js').Viewer} viewer */
  constructor(viewer) {
    this.viewer = viewer;
    this.timer = 0;
    this.number = 0;
    /** @type {AbortController|null} */
    this.controller = null;
    viewer.moved.add(() => state.shown === 'preview' && this.schedule());
    on(['file', 'model', 'values', 'blend', 'strokes', 'live', 'shown', 'compared', 'mode', 'about'], (changed) => {
      if (changed.has('file') || changed.has('model')) this.drop();
      if (state.shown === 'preview' || this.compared().length) this.schedule();
      else this.stop();
    });
  }

  compared() {
    return state.mode === 'side' ? state.compared.filter((name) => name !== state.model) : [];
  }

  /** What was shown belongs to another picture or model. */
  drop() {
    set({ preview: null, comparisons: {}, variants: [], previewState: { busy: false, error: '' } });
  }

  stop() {
    clearTimeout(this.timer);
    this.number++;
    this.controller?.abort();
    if (state.previewState.busy) set({ previewState: { busy: false, error: '' } });
  }

  schedule() {
    clearTimeout(this.timer);
    const model = chosenModel();
    if (!state.live || !model || !chosenFile() || expected(model) > SLOW) return;
    this.timer = setTimeout(() => this.run(), PAUSE);
  }

  /** Whether previews have to be asked for, because the model is slow. */
  get slow() {
    const model = chosenModel();
    return Boolean(model && expected(model) > SLOW);
  }

  /** Asks now; an answer to an older question is dropped. */
  async run() {
    const [file, model] = [chosenFile(), chosenModel()];
    if (!file || !model || !model.installed) return;
    this.stop();
    const number = this.number;
    const absent = missing(model);
    if (absent) {
      const what = absent.type === 'kernel' ? 'Give a kernel' : `Set ${label(absent.name)}`;
      set({ preview: null, previewState: { busy: false, error: `${what}: ${model.title} needs it.` } });
      return;
    }
    const crop = part(this.viewer, model);
    if (!crop) return;
    this.controller = new AbortController();
    const { signal } = this.controller;
    set({ previewState: { busy: true, error: '' } });
    try {
      const preview = await this.ask(model.name, crop, 'main', signal);
      if (number !== this.number) return;
      set({ preview, previewState: { busy: false, error: '' } });
    } catch (error) {
      if (number !== this.number) return;
      set({ previewState: { busy: false, error: /** @type {Error} */ (error).message }, preview: null });
    }
    await this.compare(crop, signal, number);
  }

  /** @param {string} model @param {import('./state.js').Crop} crop @param {string} lane @param {AbortSignal} signal */
  async ask(model, crop, lane, signal, others = {}) {
    const file = /** @type {import('./state.js').File} */ (chosenFile());
    const answer = await api.preview({ file: file.id, crop, ...(await asked(model, others)) }, lane, signal);
    return { ...answer, crop, file: file.id, model };
  }

  /** The same part by the other models of the side-by-side view, one after the other. */
  async compare(crop, signal, number) {
    for (const name of this.compared()) {
      let found;
      try {
        const model = modelNamed(name);
        const absent = model && missing(model);
        found = absent ? { error: `needs ${label(absent.name)}` } : await this.ask(name, crop, 'compare', signal);
      } catch (error) {
        found = { error: /** @type {Error} */ (error).message };
      }
      if (number !== this.number) return;
      set({ comparisons: { ...state.comparisons, [name]: found } });
    }
  }

  /** Several plausible results of the part in view, one after the other. @param {{label: string, controls: Record<string, any>}[]} wanted */
  async variants(wanted) {
    const [file, model] = [chosenFile(), chosenModel()];
    const crop = model && part(this.viewer, model);
    if (!file || !model || !crop) return;
    this.variantsController?.abort();
    const controller = (this.variantsController = new AbortController());
    set({ variants: wanted.map((variant) => ({ ...variant, preview: null, error: '' })) });
    for (const [n, variant] of wanted.entries()) {
      let found;
      try {
        found = { preview: await this.ask(model.name, crop, 'variants', controller.signal, variant.controls), error: '' };
      } catch (error) {
        found = { preview: null, error: /** @type {Error} */ (error).message };
      }
      if (controller.signal.aborted || state.file !== file.id || state.model !== model.name) return;
      set({ variants: state.variants.map((v, m) => (m === n ? { ...v, ...found } : v)) });
    }
  }
}
