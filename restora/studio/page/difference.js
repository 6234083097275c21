/** The difference of a preview and its input, drawn as the server draws that of a result: grey where they agree. */

import * as api from './api.js';
import { set, state } from './state.js';

export const GAIN = 4;

/** @type {WeakMap<ImageBitmap, HTMLCanvasElement|null>} null while it is being made */
const made = new WeakMap();

/** The picture of the difference, or null until it is there; the state says when. @param {import('./state.js').Preview} preview */
export function differenceOf(preview) {
  const found = made.get(preview.image);
  if (found === undefined) {
    made.set(preview.image, null);
    make(preview).then(
      (canvas) => {
        made.set(preview.image, canvas);
        if (state.preview === preview) set({ preview: { ...preview } });
      },
      () => made.delete(preview.image),
    );
  }
  return found ?? null;
}

/** @param {import('./state.js').Preview} preview */
async function make({ image, crop, file }) {
  const input = await api.image(api.filePath(file, { ...crop, max: Math.max(crop.w, crop.h) }));
  const before = pixels(input, image.width, image.height);
  const canvas = document.createElement('canvas');
  canvas.width = image.width;
  canvas.height = image.height;
  const after = pixels(image, image.width, image.height);
  for (let n = 0; n < after.data.length; n++) after.data[n] = n % 4 === 3 ? 255 : 128 + GAIN * (after.data[n] - before.data[n]);
  canvas.getContext('2d')?.putImageData(after, 0, 0);
  return canvas;
}

/** @param {ImageBitmap} image @param {number} width @param {number} height */
function pixels(image, width, height) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { willReadFrequently: true }));
  context.imageSmoothingQuality = 'high';
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}
