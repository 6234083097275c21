/** The page: everything connected, and filled with what the server knows. */

import * as api from './api.js';
import { attachChoose } from './choose.js';
import { byId, setText } from './dom.js';
import { attachFiles } from './files.js';
import { attachDivider, attachGestures, attachKeys } from './gestures.js';
import { motionTool } from './kernel.js';
import { brushTool, current } from './mask.js';
import { news } from './notes.js';
import { attachPanels } from './panels.js';
import { LivePreview } from './preview.js';
import { attachQueue, gone, refresh, update } from './queue.js';
import { attachScene } from './scene.js';
import { attachStage, toggleBrush } from './stage.js';
import { chosenFile, on, recall, set, state } from './state.js';
import { attachStrip } from './strip.js';
import { attachTheme } from './theme.js';
import { attachTrust } from './trust.js';
import { Viewer } from './viewer.js';

const viewer = new Viewer(byId('canvas'));
const tools = { brush: brushTool(viewer), motion: motionTool(viewer) };

recall();
attachTheme(() => viewer.redraw());
attachPanels();
attachFiles();
attachScene(viewer);
attachStage(viewer);
attachGestures(viewer, tools);
attachDivider(viewer, byId('divider'));
attachChoose(new LivePreview(viewer));
attachStrip();
attachQueue();
attachTrust();

const help = byId('help-dialog');
byId('help').addEventListener('click', () => help.showModal());
attachKeys(viewer, { help: () => help.showModal(), brush: toggleBrush, dab: () => tools.brush.dabAtCentre(), undo: () => current()?.undo() });

/** What the look found is measured when a picture is first chosen. */
on(['file'], async () => {
  const file = chosenFile();
  if (!file || file.look) return;
  try {
    const found = await api.fileDetails(file.id);
    set({ files: state.files.map((other) => (other.id === found.id ? found : other)) });
  } catch (error) {
    news(/** @type {Error} */ (error).message);
  }
});

/** Speeds are measured by jobs and previews: when some are done, the models are asked for again. */
let timer = 0;
let finished = 0;
on(['jobs', 'preview'], () => {
  const done = state.jobs.filter((job) => job.state === 'done').length;
  const unknown = state.preview && state.models.find((model) => model.name === state.preview?.model)?.seconds_per_megapixel === null;
  if (done === finished && !unknown) return;
  finished = done;
  clearTimeout(timer);
  timer = setTimeout(async () => set({ models: await api.models().catch(() => state.models) }), 1500);
});

function connect() {
  let first = true;
  const lost = byId('lost');
  api.events({
    opened: async () => {
      lost.hidden = true;
      if (!first) await refresh().catch(() => {});
      first = false;
    },
    lost: () => {
      lost.hidden = false;
    },
    message: (kind, data) => {
      if (kind === 'job') update(data);
      else if (kind === 'removed') gone(data.id);
      else set({ queue: data });
    },
  });
}

async function start() {
  try {
    const [about, files] = await Promise.all([api.about(), api.files()]);
    const chosen = files.some((/** @type {any} */ file) => file.id === state.file) ? state.file : (files[0]?.id ?? null);
    set({ about, files, file: null });
    set({ file: chosen });
    setText(byId('version'), `Restora ${about.version}`);
    await refresh();
    if (state.shown !== 'preview' && !state.jobs.some((job) => job.id === state.shown)) set({ shown: 'preview' });
    connect();
    const [tasks, models] = await Promise.all([api.tasks(), api.models()]);
    set({ tasks, models });
    byId('choose').removeAttribute('aria-busy');
  } catch (error) {
    const refused = byId('refused');
    refused.hidden = false;
    setText(byId('refused-text'), /** @type {Error} */ (error).message);
  }
}

start();
