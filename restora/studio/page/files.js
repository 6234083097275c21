/** Open: pictures that are dropped, pasted or picked, and what is known of them. */

import * as api from './api.js';
import { button, byId, fill, h, keyed, uid } from './dom.js';
import { bytes, count, megapixels, number, size } from './format.js';
import { forget } from './mask.js';
import { news, problem } from './notes.js';
import { chosenFile, follow, set, state } from './state.js';

const PICTURE = /\.(jpe?g|png|webp|tiff?|bmp|gif|jp2|j2k|avif|heic|heif|ppm|pgm|pnm|dng|exr|hdr)$/i;
const AT_ONCE = 1; // uploads: they stay in order, and the link is no faster with several

/** @type {{name: string, part: number, error: string, key: string}[]} uploads under way and those that failed */
let uploads = [];
/** @type {(() => Promise<void>)[]} */
const waiting = [];
let running = 0;

/** Makes a picture the one that is worked on. @param {string} id */
export function choose(id) {
  if (id === state.file) return;
  set({ file: id, shown: 'preview', flipped: false, marked: null, pinned: [], tool: 'pan' });
}

/** Takes pictures in. @param {{file: Blob, name: string}[]} found */
function take(found) {
  for (const { file, name } of found) {
    const entry = { name, part: 0, error: '', key: uid('upload') };
    uploads.push(entry);
    waiting.push(() => send(entry, file));
  }
  show();
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running++;
    /** @type {any} */ (waiting.shift())().finally(() => {
      running--;
      next();
    });
  }
}

/** @param {typeof uploads[0]} entry @param {Blob} file */
async function send(entry, file) {
  try {
    const added = await api.upload(file, entry.name, (part) => {
      entry.part = part;
      show();
    });
    uploads = uploads.filter((other) => other !== entry);
    const ids = new Set(added.map((/** @type {any} */ f) => f.id));
    set({ files: [...state.files.filter((f) => !ids.has(f.id)), ...added] });
    if (!chosenFile() || !uploads.some((u) => !u.error)) choose(added[added.length - 1].id);
  } catch (error) {
    entry.error = /** @type {Error} */ (error).message;
  }
  show();
}

/** The files of a drop, folders opened. @param {DataTransfer} transfer */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter((entry) => entry);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const found = /** @type {{file: Blob, name: string}[]} */ ([]);
  const walk = async (/** @type {any} */ entry, /** @type {boolean} */ inside) => {
    if (entry.isFile) {
      if (inside && !PICTURE.test(entry.name)) return;
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, name: entry.name });
    } else {
      const reader = entry.createReader();
      for (;;) {
        const some = /** @type {any[]} */ (await new Promise((resolve, reject) => reader.readEntries(resolve, reject)));
        if (!some.length) break;
        for (const one of some) await walk(one, true);
      }
    }
  };
  for (const entry of entries) await walk(entry, false);
  return found;
}

/** @param {FileList|null} list @param {boolean} folder */
function picked(list, folder) {
  const files = [...(list ?? [])].filter((file) => !folder || PICTURE.test(file.name));
  if (list?.length && !files.length) news('That folder holds no pictures.');
  take(files.map((file) => ({ file, name: file.name })));
}

async function paste() {
  try {
    const found = [];
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((t) => t.startsWith('image/'));
      if (type) found.push({ file: await item.getType(type), name: `pasted.${type.split('/')[1].replace('jpeg', 'jpg')}` });
    }
    if (found.length) take(found);
    else news('The clipboard holds no picture.');
  } catch {
    news('This browser gives pages no access to the clipboard; press Ctrl+V instead.');
  }
}

/** What the automatic look found, as short words. @param {import('./state.js').Look} look */
function findings(look) {
  return [
    look.noise !== null && ['Noise', `σ ${number(look.noise, 1)}`],
    look.blur !== null && ['Blur', `${Math.round(look.blur * 100)} %`],
    look.jpeg_quality !== null && ['JPEG quality', String(look.jpeg_quality)],
    ['Size', look.size],
  ].filter((row) => row);
}

/** @param {import('./state.js').File} file */
function details(file) {
  const rows = [
    ['Size', `${size(file.width, file.height)}, ${megapixels(file.width, file.height)}`],
    ['Format', `${file.format.toUpperCase()}, ${bytes(file.bytes)}`],
    ['Depth', `${file.bit_depth} bit, ${file.channels === 1 ? 'grey' : 'colour'}${file.alpha ? ', transparency' : ''}`],
    ['Profile', file.profile || 'none (taken as sRGB)'],
  ];
  const list = (/** @type {any[]} */ pairs) => h('dl', { class: 'facts' }, pairs.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
  return [
    h('h3', { class: 'name' }, file.name),
    list(rows),
    file.notes.map((note) => h('p', { class: 'hint' }, note)),
    h('h3', {}, 'What the look found'),
    file.look
      ? [
          list(findings(file.look)),
          h('p', { class: 'advice' }, file.look.advice),
          file.look.notes?.map((note) => h('p', { class: 'hint' }, note)),
          file.look.task &&
            state.tasks.some((task) => task.name === file.look?.task && task.model) &&
            state.task !== file.look.task &&
            button({ label: `Choose “${state.tasks.find((t) => t.name === file.look?.task)?.title}”`, class: 'small', click: () => set({ task: file.look?.task, panel: 'restore' }) }),
        ]
      : h('p', { class: 'hint' }, 'Looking…'),
  ];
}

/** @param {import('./state.js').File} file */
function row(file) {
  const select = h(
    'button',
    { type: 'button', class: 'pick', on: { click: () => choose(file.id) } },
    h('img', { alt: '', loading: 'lazy', width: '56', height: '42', src: api.filePath(file.id, { max: 160 }) }),
    h('span', { class: 'text' }, h('span', { class: 'name' }, file.name), h('span', { class: 'hint' }, `${size(file.width, file.height)}${file.shared ? ', shared' : ''}`)),
  );
  const remove = file.shared
    ? null
    : button({ label: `Remove ${file.name}`, icon: 'close', class: 'quiet', click: () => drop(file) });
  const element = h('li', {}, select, remove);
  element.update = () => select.setAttribute('aria-pressed', String(state.file === file.id));
  return element;
}

/** @param {import('./state.js').File} file */
async function drop(file) {
  try {
    await api.removeFile(file.id);
  } catch (error) {
    news(/** @type {Error} */ (error).message);
    return;
  }
  forget(file.id);
  const files = state.files.filter((other) => other.id !== file.id);
  set({ files });
  if (state.file === file.id) set({ file: files[0]?.id ?? null, shown: 'preview' });
  byId('pick-files').focus();
}

/** @param {typeof uploads[0]} entry */
function uploadRow(entry) {
  const bar = h('progress', { max: '1', 'aria-label': `Upload of ${entry.name}` });
  const text = h('div', { class: 'text' });
  const element = h('li', { class: 'upload' }, text);
  element.update = () => {
    bar.value = entry.part;
    if (!entry.error) {
      if (bar.parentElement !== text) fill(text, h('span', { class: 'name' }, entry.name), bar);
    } else if (!text.querySelector('.problem')) {
      const away = () => {
        uploads = uploads.filter((other) => other !== entry);
        show();
      };
      fill(text, h('span', { class: 'name' }, entry.name), problem(entry.error));
      element.append(button({ label: `Dismiss ${entry.name}`, icon: 'close', class: 'quiet', click: away }));
    }
  };
  return element;
}

function show() {
  keyed(byId('uploads'), uploads, (entry) => entry.key, uploadRow);
  keyed(byId('files'), state.files, (file) => file.id, row);
  byId('no-files').hidden = state.files.length + uploads.length > 0;
  byId('files-count').textContent = state.files.length ? count(state.files.length, 'picture') : '';
}

let shownDetails = '';
function showDetails() {
  const file = chosenFile();
  const key = JSON.stringify([file, state.tasks, state.task]);
  if (key === shownDetails) return;
  shownDetails = key;
  fill(byId('details'), file && details(file));
}

/** Connects the panel and everything through which pictures come in. */
export function attachFiles() {
  const [files, folder] = [byId('file-input'), byId('folder-input')];
  const opener = (/** @type {string} */ id, /** @type {HTMLElement} */ input) => byId(id).addEventListener('click', () => input.click());
  opener('pick-files', files);
  opener('pick-folder', folder);
  opener('empty-pick', files);
  byId('pick-paste').addEventListener('click', paste);
  for (const [input, isFolder] of [[files, false], [folder, true]]) {
    input.addEventListener('change', () => {
      picked(input.files, isFolder);
      input.value = '';
    });
  }
  document.addEventListener('paste', (event) => {
    const found = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith('image/'));
    if (!found.length) return;
    event.preventDefault();
    take(found.map((file) => ({ file, name: file.name || 'pasted.png' })));
  });
  let depth = 0;
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes('Files');
  const veil = byId('drop');
  document.addEventListener('dragenter', (event) => {
    if (!hasFiles(event)) return;
    depth++;
    veil.hidden = false;
  });
  document.addEventListener('dragleave', (event) => {
    if (hasFiles(event) && --depth <= 0) veil.hidden = true;
  });
  document.addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener('drop', async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    take(await dropped(/** @type {DataTransfer} */ (event.dataTransfer)));
  });
  follow(['files', 'file'], show);
  follow(['files', 'file', 'tasks', 'task'], showDetails);
}
