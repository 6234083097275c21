/** Numbers as people read them. */

/** @param {number} bytes */
export function bytes(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = -1;
  do {
    value /= 1000;
    unit++;
  } while (value >= 999.5 && unit < units.length - 1);
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} width @param {number} height */
export const size = (width, height) => `${width} × ${height}`;

/** @param {number} width @param {number} height */
export function megapixels(width, height) {
  const value = (width * height) / 1e6;
  return `${value < 0.1 ? value.toFixed(2) : value < 10 ? value.toFixed(1) : Math.round(value)} MP`;
}

/** @param {number} count */
export function parameters(count) {
  if (count >= 1e6) return `${number(count / 1e6, 1)} M parameters`;
  return count >= 1e3 ? `${Math.round(count / 1e3)} k parameters` : `${count} parameters`;
}

/** A number without needless zeros. @param {number} value @param {number} [digits] */
export const number = (value, digits = 2) => String(Number(value.toFixed(digits)));

/** @param {number} count @param {string} noun */
export const count = (count, noun) => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** `jpeg_quality` as a label: `JPEG quality`. @param {string} name */
export function label(name) {
  const words = name.replaceAll('_', ' ').replace(/\b(jpeg|tv|l1|l2|tta)\b/gi, (word) => word.toUpperCase());
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** The value of a control as a short text. @param {any} value */
export function value(value) {
  if (value === null || value === undefined) return 'default';
  if (typeof value === 'number') return number(value, 3);
  if (value === true) return 'on';
  return value === false ? 'off' : String(value);
}
