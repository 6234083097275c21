/** Every request to the server. Failures are `ApiError`s with the server's own sentence. */

export class ApiError extends Error {
  /** @param {string} sentence @param {number} status */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

const RETRIES = 4;
/** Tells the server which previews replace each other. */
export const client = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, '0')).join('');

/** @param {number} ms @param {AbortSignal} [signal] */
const wait = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** The sentence of a refusal. @param {number} status @param {string} text */
function sentence(status, text) {
  try {
    const body = JSON.parse(text);
    if (typeof body.error === 'string') return body.error;
    if (typeof body.detail === 'string') return body.detail;
  } catch {
    // no JSON: a proxy in between, say
  }
  return `The studio answered with status ${status}.`;
}

/**
 * @param {string} path
 * @param {{method?: string, body?: any, signal?: AbortSignal, headers?: Record<string, string>}} [options] `body` is sent as JSON
 * @returns {Promise<Response>}
 */
async function request(path, { method = 'GET', body, signal, headers = {} } = {}) {
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, {
        method,
        signal,
        headers: body === undefined ? headers : { 'content-type': 'application/json', ...headers },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new ApiError('The studio does not answer; is it still running in its terminal?', 0);
    }
    if (response.ok) return response;
    if (response.status === 429 && attempt < RETRIES) {
      await wait(1000 * Number(response.headers.get('retry-after') ?? 1) * (1 + Math.random() / 2), signal);
      continue;
    }
    throw new ApiError(sentence(response.status, await response.text()), response.status);
  }
}

/** @param {string} path @param {object} [options] */
const json = async (path, options) => (await request(path, options)).json();

/** @param {Record<string, string|number>} query */
const ask = (query) => new URLSearchParams(Object.entries(query).map(([k, v]) => [k, String(v)])).toString();

/** An image of the server, decoded. @param {string} path @param {AbortSignal} [signal] */
export async function image(path, signal) {
  const blob = await (await request(path, { signal })).blob();
  return createImageBitmap(blob);
}

/**
 * Sends a file (multipart); `progress` hears 0 to 1. A request of the old kind, because fetch tells nothing of its progress.
 * @param {string} path @param {Blob} blob @param {string} name @param {(part: number) => void} [progress]
 * @returns {Promise<any>}
 */
function send(path, blob, name, progress) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    form.append(path === 'api/files' ? 'files' : 'file', blob, name);
    const xhr = new XMLHttpRequest();
    xhr.open('POST', path);
    xhr.upload.onprogress = (event) => event.lengthComputable && progress?.(event.loaded / event.total);
    xhr.onload = () => {
      if (xhr.status < 300) resolve(JSON.parse(xhr.responseText));
      else reject(new ApiError(sentence(xhr.status, xhr.responseText), xhr.status));
    };
    xhr.onerror = () => reject(new ApiError('The upload broke off; the studio may be full, stopped, or refuse files of this size.', 0));
    xhr.send(form);
  });
}

export const about = () => json('api/about');
export const tasks = () => json('api/tasks');
export const models = () => json('api/models');
export const files = () => json('api/files');
export const jobs = () => json('api/jobs');
export const queue = () => json('api/queue');

/** @param {Blob} blob @param {string} name @param {(part: number) => void} [progress] */
export const upload = (blob, name, progress) => send('api/files', blob, name, progress);
/** @param {string} id */
export const fileDetails = (id) => json(`api/files/${id}`);
/** @param {string} id */
export const removeFile = (id) => request(`api/files/${id}`, { method: 'DELETE' });
/** @param {string} id @param {Record<string, number>} region */
export const filePath = (id, region) => `api/files/${id}/image?${ask(region)}`;
/** @param {string} id @param {'image'|'difference'} kind @param {Record<string, number>} region */
export const jobPath = (id, kind, region) => `api/jobs/${id}/${kind}?${ask(region)}`;
/** @param {string} id */
export const resultPath = (id) => `api/jobs/${id}/result`;

/**
 * A part of the picture, restored at once.
 * @param {object} body @param {string} lane previews of one lane replace each other @param {AbortSignal} signal
 */
export async function preview(body, lane, signal) {
  const response = await request('api/previews', { method: 'POST', body, signal, headers: { 'x-client': `${client}-${lane}` } });
  const notes = response.headers.get('x-notes');
  return {
    image: await createImageBitmap(await response.blob()),
    seconds: Number(response.headers.get('x-seconds') ?? 0),
    notes: /** @type {string[]} */ (notes ? JSON.parse(notes) : []),
  };
}

/** @param {object} body */
export const createJobs = (body) => json('api/jobs', { method: 'POST', body });
/** @param {string} id @param {'pause'|'resume'|'cancel'|'retry'} verb */
export const jobVerb = (id, verb) => json(`api/jobs/${id}/${verb}`, { method: 'POST' });
/** @param {string} id */
export const removeJob = (id) => request(`api/jobs/${id}`, { method: 'DELETE' });
/** @param {'pause'|'resume'} verb */
export const queueVerb = (verb) => json(`api/queue/${verb}`, { method: 'POST' });
/** @param {string} id */
export const trust = (id) => json(`api/jobs/${id}/trust`);
/** @param {string} id */
export const trustMap = (id) => image(`api/jobs/${id}/trust/map?max=1024`);

/** @param {string[]} ids */
export const bundle = async (ids) => (await request('api/downloads', { method: 'POST', body: { jobs: ids } })).blob();

/** @param {Blob} png */
export const createMask = (png) => send('api/masks', png, 'mask.png');
/** @param {{text?: string, drawing?: string, motion?: {dx: number, dy: number}, file?: string}} body */
export const createKernel = (body) => json('api/kernels', { method: 'POST', body });
/** @param {string} id */
export const kernelDetails = (id) => json(`api/kernels/${id}`);
/** @param {string} id */
export const kernelPath = (id) => `api/kernels/${id}/image?max=144`;

/**
 * Job and queue updates as they happen. EventSource reconnects by itself; `opened` is called at each connection, so that what
 * was missed can be fetched.
 * @param {{opened: () => void, lost: () => void, message: (kind: string, data: any) => void}} heard
 */
export function events({ opened, lost, message }) {
  const source = new EventSource('api/events');
  source.onopen = opened;
  source.onerror = () => {
    lost();
    if (source.readyState === EventSource.CLOSED) setTimeout(() => events({ opened, lost, message }), 3000);
  };
  for (const kind of ['job', 'removed', 'queue']) {
    source.addEventListener(kind, (event) => {
      const data = /** @type {MessageEvent} */ (event).data;
      if (data) message(kind, JSON.parse(data));
    });
  }
}
