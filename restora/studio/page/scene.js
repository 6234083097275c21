/** What the viewer shows, from the state. */

import * as api from './api.js';
import { differenceOf } from './difference.js';
import { CropLayer, FrameLayer, VeilLayer } from './layers.js';
import { current } from './mask.js';
import { chosenFile, chosenModel, follow, modelNamed, set, shownJob, state, valueOf } from './state.js';
import { TileSource } from './tiles.js';

/** @typedef {import('./viewer.js').Layer} Layer */

/** @type {Map<string, TileSource>} */
const sources = new Map();

/** @param {string} key @param {number} width @param {number} height @param {(region: any) => string} path */
function source(key, width, height, path) {
  let found = sources.get(key);
  if (!found) sources.set(key, (found = new TileSource(key, width, height, path)));
  return found;
}

/** @param {import('./state.js').File} file */
const inputOf = (file) => source(`file:${file.id}`, file.width, file.height, (region) => api.filePath(file.id, region));

/** @param {import('./state.js').Job} job @param {'image'|'difference'} kind */
function resultOf(job, kind) {
  const { width, height } = /** @type {any} */ (job.result);
  return source(`${kind}:${job.id}`, width, height, (region) => api.jobPath(job.id, kind, region));
}

/** Maps of invented detail, by job. @type {Map<string, {image: HTMLCanvasElement, region: import('./state.js').Crop}>} */
const maps = new Map();

/** Keeps a map, transparent where it is black, and marks it. @param {string} job @param {ImageBitmap} image @param {import('./state.js').Crop} region */
export function keepMap(job, image, region) {
  const canvas = document.createElement('canvas');
  canvas.width = image.width;
  canvas.height = image.height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let n = 0; n < pixels.data.length; n += 4) pixels.data[n + 3] = Math.min(255, 1.5 * Math.max(...pixels.data.subarray(n, n + 3)));
  context.putImageData(pixels, 0, 0);
  maps.set(job, { image: canvas, region });
  set({ marked: job });
}

/** @param {string} job */
export const hasMap = (job) => maps.has(job);

/** The arrow that is being drawn. @type {{layer: import('./layers.js').ArrowLayer|null}} */
export const arrow = { layer: null };

/** What the chosen model is set to enlarge by, so that 100 % means the same before and after the first preview. */
function expectedScale() {
  const model = chosenModel();
  const control = model?.controls.find((c) => c.name === 'scale');
  const scale = model && control ? valueOf(model.name, control) : 1;
  return typeof scale === 'number' && scale > 0 ? scale : 1;
}

/** What is shown on the right of the divider: layers, a label, and pixels for one of the input. */
function after(file, below) {
  const job = shownJob();
  if (job && job.file === file.id) {
    const result = resultOf(job, 'image');
    const map = state.marked === job.id ? maps.get(job.id) : null;
    const layers = [...(file.alpha ? [] : [below]), result, ...(map ? [new VeilLayer(map.image, map.region, file, 0.85)] : [])];
    return { label: `${modelNamed(job.model)?.title ?? job.model}, result`, layers, reference: result.width / file.width };
  }
  const preview = state.preview;
  if (preview && preview.file === file.id) return previewed(file, below, preview, 'preview');
  return { label: 'No preview yet', layers: [below], reference: expectedScale() };
}

/** @param {import('./state.js').Preview} preview */
function previewed(file, below, preview, word) {
  return {
    label: `${modelNamed(preview.model)?.title ?? preview.model}${word ? `, ${word}` : ''}`,
    layers: [below, new CropLayer(preview.image, preview.crop, file), new FrameLayer(preview.crop, file)],
    reference: preview.image.width / preview.crop.w,
  };
}

/** @returns {Layer[]} */
function difference(file, below) {
  const job = shownJob();
  if (job && job.file === file.id) return [resultOf(job, 'difference')];
  const preview = state.preview;
  if (!preview || preview.file !== file.id) return [];
  const image = differenceOf(preview);
  return image ? [new CropLayer(image, preview.crop, { ...file, alpha: false }), new FrameLayer(preview.crop, file)] : [];
}

/** @returns {import('./viewer.js').Scene|null} */
function build() {
  const file = chosenFile();
  if (!file) return null;
  const below = inputOf(file);
  const before = { label: 'Input', layers: [below] };
  const shown = after(file, below);
  const scene = { width: file.width, height: file.height, alpha: file.alpha, reference: shown.reference, panes: [before], split: null, overlays: overlays(file) };
  if (state.flipped) return scene;
  if (state.mode === 'split') return { ...scene, split: [before, shown] };
  if (state.mode === 'result') return { ...scene, panes: [shown] };
  if (state.mode === 'difference') return { ...scene, alpha: false, panes: [{ label: 'Difference, enlarged', layers: difference(file, below) }] };
  const panes = [before, shown];
  for (const name of state.compared) {
    const found = name === state.model && state.shown === 'preview' ? null : state.comparisons[name];
    if (name === state.model && state.shown === 'preview') continue;
    const title = modelNamed(name)?.title ?? name;
    if (found && 'image' in found) panes.push(previewed(file, below, found, ''));
    else panes.push({ label: found ? `${title}: ${found.error}` : `${title}, to come`, layers: [below], reference: 1 });
  }
  for (const job of state.jobs) {
    if (!state.pinned.includes(job.id) || job.id === state.shown || job.file !== file.id || !job.result) continue;
    const result = resultOf(job, 'image');
    panes.push({ label: `${modelNamed(job.model)?.title ?? job.model}, result`, layers: [result], reference: result.width / file.width });
  }
  return { ...scene, panes, reference: Math.max(...panes.map((pane) => /** @type {any} */ (pane).reference ?? 1)) };
}

/** @returns {Layer[]} */
function overlays(file) {
  const found = /** @type {Layer[]} */ ([]);
  const whole = { x: 0, y: 0, w: file.width, h: file.height };
  const mask = state.tool === 'brush' ? current() : null;
  if (mask) found.push(new VeilLayer(mask.canvas, whole, file, 0.55));
  if (arrow.layer) found.push(arrow.layer);
  return found;
}

/** Keeps the viewer in line with the state. @param {import('./viewer.js').Viewer} viewer */
export function attachScene(viewer) {
  let last = /** @type {string|null} */ (null);
  const show = () => {
    const file = state.file;
    viewer.show(build(), file !== last);
    last = file;
  };
  follow(
    ['file', 'files', 'mode', 'flipped', 'shown', 'preview', 'comparisons', 'compared', 'pinned', 'jobs', 'tool', 'painting', 'strokes', 'marked', 'models', 'model', 'values'],
    show,
  );
  return show;
}

/** The labels of the panes, in their order. @param {import('./viewer.js').Viewer} viewer */
export function labels(viewer) {
  const scene = viewer.scene;
  if (!scene) return [];
  return scene.split ? [scene.split[0].label, scene.split[1].label] : scene.panes.map((pane) => pane.label);
}
