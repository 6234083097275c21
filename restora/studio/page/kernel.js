/** The blur kernel: written, drawn, uploaded, estimated from the picture, or picked on it as a motion. */

import * as api from './api.js';
import { button, fill, h, uid } from './dom.js';
import { label, number } from './format.js';
import { ArrowLayer } from './layers.js';
import { problem } from './notes.js';
import { arrow } from './scene.js';
import { chosenFile, set, setValue, state, valueOf } from './state.js';

const WAYS = [
  ['motion', 'Motion'],
  ['draw', 'Draw'],
  ['estimate', 'Estimate'],
  ['upload', 'Upload'],
  ['text', 'Text'],
];
const LARGEST = 255; // pixels of a side
const PAUSE = 500; // ms after a stroke

let way = 'motion';
/** The motion in pixels of the picture; what a drag on it sets. */
const motion = { dx: 15, dy: 0 };
let motionPicked = () => {};

/** @param {Blob} blob @returns {Promise<string>} */
const base64 = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(',')[1]);
    reader.onerror = () => reject(new Error('The file cannot be read.'));
    reader.readAsDataURL(blob);
  });

/**
 * The field of a kernel control.
 * @param {import('./state.js').Model} model @param {import('./state.js').Control} control
 */
export function kernelField(model, control) {
  const name = uid('way');
  const shown = h('div', { class: 'kernel-shown' });
  const editor = h('div', { class: 'kernel-editor' });
  const status = h('div', { 'aria-live': 'polite' });

  const use = async (/** @type {any} */ body, wait = '') => {
    fill(status, wait && h('p', { class: 'hint busy' }, wait));
    try {
      const kernel = await api.createKernel(body);
      set({ kernels: { ...state.kernels, [kernel.id]: kernel } });
      setValue(model.name, control.name, kernel.id);
      fill(status);
    } catch (error) {
      fill(status, problem(/** @type {Error} */ (error).message));
    }
  };

  const editors = { motion: motionEditor, draw: drawEditor, estimate: estimateEditor, upload: uploadEditor, text: textEditor };
  const open = () => {
    fill(status);
    if (state.tool === 'motion' && way !== 'motion') set({ tool: 'pan' });
    fill(editor, editors[way](use));
  };
  const ways = h(
    'div',
    { class: 'segments wrap', role: 'radiogroup', 'aria-label': 'Where the kernel comes from' },
    WAYS.map(([key, title]) =>
      h(
        'label',
        {},
        h('input', { type: 'radio', name, value: key, checked: way === key, on: { change: () => { way = key; open(); } } }),
        h('span', {}, title),
      ),
    ),
  );
  const element = h(
    'fieldset',
    { class: 'field kernel', data: { control: control.name } },
    h('legend', {}, label(control.name)),
    shown,
    ways,
    editor,
    status,
  );
  element.refresh = () => showKernel(shown, valueOf(model.name, control));
  element.refresh();
  open();
  return element;
}

/** The kernel that is set, enlarged. @param {any} place @param {any} id */
function showKernel(place, id) {
  const key = `${id} ${Boolean(state.kernels[id])}`;
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  if (typeof id !== 'string' || !id.startsWith('k-')) {
    fill(place, h('p', { class: 'hint' }, 'No kernel yet: say how the picture was blurred.'));
    return;
  }
  const kernel = state.kernels[id];
  if (!kernel) {
    api.kernelDetails(id).then(
      (found) => set({ kernels: { ...state.kernels, [id]: found } }),
      () => {}, // gone with an older state of the server: the next request says so
    );
  }
  fill(
    place,
    h('img', { src: api.kernelPath(id), alt: `The kernel, enlarged: ${kernel?.text ?? ''}`, width: '72', height: '72' }),
    h('div', {}, h('p', { class: 'name' }, kernel?.text ?? ''), kernel && h('p', { class: 'hint' }, `${kernel.size} pixels${kernel.estimated ? ', estimated' : ''}`)),
    kernel?.warnings.map((warning) => h('p', { class: 'problem mild' }, warning)),
  );
}

/** @typedef {(body: object, wait?: string) => Promise<void>} Use */

/** @param {Use} use */
function motionEditor(use) {
  const fields = ['dx', 'dy'].map((key) => {
    const id = uid(key);
    const input = h('input', {
      type: 'number', id, class: 'number', min: '-250', max: '250', step: 'any', value: number(motion[key], 1),
      on: { change: () => Number.isFinite(input.valueAsNumber) && (motion[key] = input.valueAsNumber) },
    });
    return { key, input, element: h('div', { class: 'row' }, h('label', { htmlFor: id }, key === 'dx' ? 'To the right, pixels' : 'Down, pixels'), input) };
  });
  motionPicked = () => {
    for (const { key, input } of fields) input.value = number(motion[key], 1);
    use({ motion: { ...motion } });
  };
  return [
    h('p', { class: 'hint' }, 'Drag along the streak that a point of light drew, or say how far things moved.'),
    button({ label: 'Pick it on the picture', icon: 'target', text: true, class: 'small', click: () => set({ tool: 'motion' }) }),
    fields.map((field) => field.element),
    button({ label: 'Use this motion', class: 'small', click: () => use({ motion: { ...motion } }) }),
  ];
}

/** The tool that picks a motion on the picture. @param {import('./viewer.js').Viewer} viewer @returns {import('./gestures.js').Tool} */
export function motionTool(viewer) {
  let from = /** @type {{x: number, y: number}|null} */ (null);
  const draw = (/** @type {{x: number, y: number}} */ to) => {
    const file = chosenFile();
    if (!from || !file) return;
    arrow.layer = new ArrowLayer(from, to, file.width);
    set({ strokes: state.strokes + 1 });
  };
  return {
    down(place) {
      from = place;
    },
    move: draw,
    up(place) {
      if (!from) return;
      const clipped = (/** @type {number} */ value) => Math.max(-250, Math.min(250, value));
      const [dx, dy] = [clipped(place.x - from.x), clipped(place.y - from.y)];
      from = null;
      if (Math.hypot(dx, dy) * viewer.place.zoom < 3) return this.cancel();
      Object.assign(motion, { dx, dy });
      set({ tool: 'pan' });
      arrow.layer = null;
      motionPicked();
    },
    cancel() {
      from = null;
      arrow.layer = null;
      viewer.redraw();
    },
  };
}

/** @param {Use} use */
function drawEditor(use) {
  const canvas = h('canvas', {
    class: 'kernel-canvas', tabindex: '0', role: 'application',
    'aria-label': 'Kernel to draw on. With the keyboard: arrows move, Space draws, Delete clears.',
  });
  const context = canvas.getContext('2d');
  const cursor = { x: 0, y: 0, shown: false };
  /** @type {Float32Array} */ let plane;
  let side = 25;
  let timer = 0;
  const resize = () => {
    plane = new Float32Array(side * side);
    cursor.x = cursor.y = (side - 1) / 2;
    canvas.width = canvas.height = side;
    paint();
  };
  const paint = () => {
    const data = context.createImageData(side, side);
    for (let n = 0; n < plane.length; n++) {
      const here = cursor.shown && n === cursor.y * side + cursor.x;
      data.data.set([here ? 255 : plane[n] * 255, plane[n] * 255, here ? 80 : plane[n] * 255, 255], n * 4);
    }
    context.putImageData(data, 0, 0);
  };
  const dot = (/** @type {number} */ x, /** @type {number} */ y) => {
    for (let row = Math.floor(y) - 1; row <= y + 1; row++) {
      for (let column = Math.floor(x) - 1; column <= x + 1; column++) {
        if (row < 0 || column < 0 || row >= side || column >= side) continue;
        const value = Math.max(0, 1 - Math.hypot(column + 0.5 - x, row + 0.5 - y) / 1.1);
        plane[row * side + column] = Math.max(plane[row * side + column], value);
      }
    }
  };
  const send = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!plane.some((value) => value > 0)) return;
      const still = document.createElement('canvas');
      still.width = still.height = side;
      const c = /** @type {CanvasRenderingContext2D} */ (still.getContext('2d'));
      const data = c.createImageData(side, side);
      for (let n = 0; n < plane.length; n++) data.data.set([plane[n] * 255, plane[n] * 255, plane[n] * 255, 255], n * 4);
      c.putImageData(data, 0, 0);
      still.toBlob(async (blob) => blob && use({ drawing: await base64(blob) }));
    }, PAUSE);
  };
  let last = /** @type {{x: number, y: number}|null} */ (null);
  const at = (/** @type {PointerEvent} */ event) => {
    const box = canvas.getBoundingClientRect();
    return { x: ((event.clientX - box.left) / box.width) * side, y: ((event.clientY - box.top) / box.height) * side };
  };
  canvas.addEventListener('pointerdown', (/** @type {PointerEvent} */ event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at(event);
    dot(last.x, last.y);
    paint();
  });
  canvas.addEventListener('pointermove', (/** @type {PointerEvent} */ event) => {
    if (!last) return;
    const next = at(event);
    const steps = Math.ceil(Math.hypot(next.x - last.x, next.y - last.y) * 3);
    for (let n = 1; n <= steps; n++) dot(last.x + ((next.x - last.x) * n) / steps, last.y + ((next.y - last.y) * n) / steps);
    last = next;
    paint();
  });
  canvas.addEventListener('pointerup', () => {
    last = null;
    send();
  });
  canvas.addEventListener('keydown', (/** @type {KeyboardEvent} */ event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in moves) {
      cursor.x = Math.min(side - 1, Math.max(0, cursor.x + moves[event.key][0]));
      cursor.y = Math.min(side - 1, Math.max(0, cursor.y + moves[event.key][1]));
    } else if (event.key === ' ') {
      dot(cursor.x + 0.5, cursor.y + 0.5);
      send();
    } else if (event.key === 'Delete') plane.fill(0);
    else return;
    event.preventDefault();
    event.stopPropagation();
    paint();
  });
  const showCursor = (/** @type {boolean} */ on) => () => {
    cursor.shown = on && canvas.matches(':focus-visible');
    paint();
  };
  canvas.addEventListener('focus', showCursor(true));
  canvas.addEventListener('blur', showCursor(false));
  const id = uid('side');
  const sides = h(
    'select',
    { id, on: { change: () => { side = Number(sides.value); resize(); } } },
    [15, 25, 41, 61].map((n) => h('option', { value: n, selected: n === side }, `${n} × ${n}`)),
  );
  resize();
  return [
    h('p', { class: 'hint' }, 'Draw the path that a point of light took; slower is brighter.'),
    canvas,
    h('div', { class: 'row' }, h('label', { htmlFor: id }, 'Size in pixels'), sides),
    button({ label: 'Clear the drawing', text: 'Clear', class: 'small', click: () => { plane.fill(0); paint(); } }),
  ];
}

/** @param {Use} use */
function estimateEditor(use) {
  const start = button({
    label: 'Estimate from this picture',
    class: 'small',
    click: async () => {
      const file = chosenFile();
      if (!file) return;
      start.disabled = true;
      await use({ file: file.id }, 'Estimating; this takes up to a minute.');
      start.disabled = false;
    },
  });
  return [h('p', { class: 'hint' }, 'Looks for the kernel that explains the edges of the picture. It is a guess: compare the result.'), start];
}

/** @param {Use} use */
function uploadEditor(use) {
  const id = uid('kernel-file');
  const input = h('input', {
    type: 'file', id, accept: 'image/png,image/bmp,image/tiff,text/plain,.txt,.csv',
    on: {
      change: async () => {
        const file = input.files?.[0];
        if (!file) return;
        const text = /\.(txt|csv)$/i.test(file.name) || file.type.startsWith('text/');
        await use(text ? { text: await file.text() } : { drawing: await base64(file) });
      },
    },
  });
  return [
    h('p', { class: 'hint' }, `A grey picture, light on dark, or rows of numbers; at most ${LARGEST} pixels a side.`),
    h('label', { htmlFor: id }, 'Kernel file'),
    input,
  ];
}

/** @param {Use} use */
function textEditor(use) {
  const id = uid('formula');
  const input = h('textarea', { id, rows: '3', spellcheck: 'false', value: 'gaussian:1.6' });
  return [
    h('label', { htmlFor: id }, 'Formula or numbers'),
    input,
    h('p', { class: 'hint' }, 'gaussian:1.6, motion:25:30 (length, angle), disk:4, or rows of numbers.'),
    button({ label: 'Use this formula', class: 'small', click: () => use({ text: input.value }) }),
  ];
}
