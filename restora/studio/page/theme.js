/** Dark, light, or as the system has it. */

import { byId } from './dom.js';

const CHOICES = ['system', 'dark', 'light'];

/** @param {() => void} changed called when the colours are others */
export function attachTheme(changed) {
  const switcher = byId('theme');
  const show = (/** @type {string} */ choice) => {
    if (choice === 'system') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    switcher.setAttribute('aria-label', `Colours: ${choice}`);
    switcher.title = `Colours: ${choice}`;
    changed();
  };
  const kept = localStorage.getItem('restora-theme');
  let choice = CHOICES.includes(kept ?? '') ? /** @type {string} */ (kept) : 'system';
  show(choice);
  switcher.addEventListener('click', () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    localStorage.setItem('restora-theme', choice);
    show(choice);
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
}
