/** Which panel is open: beside the picture on a wide window, below it on a narrow one. */

import { byId } from './dom.js';
import { follow, set, state } from './state.js';

const PANELS = ['pictures', 'restore', 'queue', 'trust'];

export function attachPanels() {
  const narrow = matchMedia('(max-width: 800px)');
  const open = (/** @type {string} */ name) => {
    // on a wide window the pictures have a place of their own, and one of the others is always open
    if (!narrow.matches && name === state.panel) return;
    set({ panel: name === state.panel ? '' : name });
  };
  for (const name of PANELS) byId(`tab-${name}`).addEventListener('click', () => open(name));
  const show = () => {
    if (!narrow.matches && !PANELS.slice(1).includes(state.panel)) return set({ panel: 'restore' });
    for (const name of PANELS) {
      const visible = name === state.panel || (name === 'pictures' && !narrow.matches);
      byId(`panel-${name}`).hidden = !visible;
      byId(`tab-${name}`).setAttribute('aria-expanded', String(visible));
    }
    document.body.classList.toggle('sheet', narrow.matches && state.panel !== '');
  };
  follow(['panel'], show);
  narrow.addEventListener('change', () => {
    if (narrow.matches) set({ panel: '' });
    show();
  });
  if (narrow.matches && !state.file) set({ panel: '' });
  // the keyboard gets back from a sheet to its tab
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !narrow.matches || !state.panel || state.tool !== 'pan') return;
    const name = state.panel;
    set({ panel: '' });
    byId(`tab-${name}`).focus();
  });
}
