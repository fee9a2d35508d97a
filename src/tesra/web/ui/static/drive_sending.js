// How bytes get to the server: a group of small files in one request, a large file in parts (tus).
// Both wait through a lost connection and an ended session, and tell in words why they gave up.
"use strict";
const DriveSending = (() => {
  const UPLOADS = "/api/v1/uploads";
  const PART_BYTES = 32 * 2 ** 20;
  const DELAYS = [1000, 2000, 5000, 10000];
  const TRIES = 6; // of a server that answers, but not well
  const delay = (attempt) => DELAYS[Math.min(attempt, DELAYS.length - 1)];
  const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

  class Refused extends Error {
    constructor(status, told) {
      super(told?.detail ?? Tesra.$("#words-app").dataset.failed);
      this.status = status;
      this.code = told?.code ?? "";
    }
  }

  function read(text) {
    try { return JSON.parse(text); } catch { return null; }
  }

  /** The proof of the session as it is now: it may be another one since the page was made. */
  async function renewSession() {
    const told = await fetch("/session.json").then((answer) => answer.json()).catch(() => null);
    if (told && !told.signed_in) await Tesra.sessionAgain();
    else if (told?.csrf) Tesra.$('meta[name="csrf"]').content = told.csrf;
  }

  const again = (status) => status === 0 || status === 423 || status === 429 || status >= 500;

  /** Whether the beginning of a file can still be read. */
  const readable = (file) => file.size === 0 || file.slice(0, 1).arrayBuffer().then(() => true, () => false);

  function once(url, body, { onProgress, signal }) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", url);
      request.setRequestHeader("X-CSRF-Token", Tesra.csrf());
      request.setRequestHeader("Accept", "application/json");
      request.setRequestHeader("Content-Type", "application/x-tar");
      request.upload.onprogress = (event) => onProgress(event.loaded);
      request.onload = () => resolve({ status: request.status, told: read(request.responseText) });
      request.onerror = () => resolve({ status: 0, told: null });
      request.onabort = () => reject(new DOMException("", "AbortError"));
      signal.addEventListener("abort", () => request.abort(), { once: true });
      request.send(body);
    });
  }

  /** Sends a group into the drive in one version; rejects with Refused, or AbortError. */
  async function group(folder, files, { onProgress, onOffline, signal }) {
    const url = `/api/v1/drive/unpack?path=${encodeURIComponent(folder)}`;
    for (let attempt = 0; ; attempt += 1) {
      const { status, told } = await once(url, DriveArchive.tar(files), { onProgress, signal });
      if (status >= 200 && status < 300) return;
      if (status === 401 || told?.code === "request_forged") {
        await renewSession();
      } else if (told?.code !== "too_busy" && (!again(status) || (status !== 0 && attempt >= TRIES))) {
        throw new Refused(status, told);
      } else {
        if (status === 0) {
          const here = await Promise.all(files.map(({ file }) => readable(file)));
          if (here.includes(false)) throw new Refused(0, { code: "unreadable", lost: here });
        }
        onOffline(status === 0);
        await pause(delay(attempt));
        if (signal.aborted) throw new DOMException("", "AbortError");
      }
      onOffline(false);
    }
  }

  const fingerprint = (path, file) => `tesra:${path}:${file.size}:${file.lastModified}`;

  /** What this browser remembers of an upload that it began: its fingerprint, or null. */
  function remembered(id) {
    for (let place = 0; place < localStorage.length; place += 1) {
      const key = localStorage.key(place);
      if (key.startsWith("tus::") && localStorage.getItem(key).includes(id)) return key.split("::")[1];
    }
    return null;
  }

  async function landed(url, onLanding) {
    for (;;) {
      const upload = await Tesra.callJson(url);
      if (upload.state === "landed") return;
      if (upload.state === "refused") throw new Refused(409, upload.error);
      onLanding();
      await pause(1000);
    }
  }

  /** A large file on its way; `start` (also to go on), `pause`, `cancel`. */
  function large(file, path, { url, onProgress, onOffline, onLanding, onDone, onFailed }) {
    let unreadable = false;
    const upload = new tus.Upload(file, {
      endpoint: UPLOADS,
      uploadUrl: url ?? null,
      chunkSize: PART_BYTES,
      retryDelays: Array.from({ length: 1000 }, (_, attempt) => delay(attempt)),
      metadata: { path, filename: file.name, filetype: file.type },
      fingerprint: async () => fingerprint(path, file),
      removeFingerprintOnSuccess: true,
      onBeforeRequest: async (request) => {
        if (request.getMethod() === "HEAD") {
          await renewSession(); // a HEAD that is refused would begin the upload anew
          unreadable = !(await readable(file));
        }
        request.setHeader("X-CSRF-Token", Tesra.csrf());
      },
      onAfterResponse: async (_, response) => {
        onOffline(false);
        if (response.getStatus() === 401 || response.getStatus() === 403) await renewSession();
      },
      onShouldRetry: (error) => {
        if (unreadable) return false;
        const status = error.originalResponse?.getStatus() ?? 0;
        const code = read(error.originalResponse?.getBody() ?? "")?.code;
        onOffline(status === 0);
        return again(status) || status === 401 || code === "request_forged" || code === "offset_wrong";
      },
      onProgress: (sent) => onProgress(sent),
      onSuccess: () => landed(upload.url, onLanding).then(onDone, onFailed),
      onError: (error) => { failed(error); },
    });

    async function failed(error) {
      const told = read(error.originalResponse?.getBody() ?? "");
      const status = error.originalResponse?.getStatus() ?? 0;
      if (unreadable || !error.originalRequest) onFailed(new Refused(0, { code: "unreadable" }));
      else if (told) onFailed(new Refused(status, told));
      else if (upload.url) await landed(upload.url, onLanding).then(onDone, onFailed);
      else onFailed(new Refused(status, null));
    }

    async function start() {
      if (!upload.url && !url) {
        const before = await upload.findPreviousUploads();
        if (before.length) upload.resumeFromPreviousUpload(before[before.length - 1]);
      }
      upload.start();
    }

    return { start, pause: () => upload.abort(), cancel: () => upload.abort(true).catch(() => null) };
  }

  /** Uploads of this account that broke off and may go on. */
  async function unfinished() {
    const told = await Tesra.callJson(`${UPLOADS}?limit=50`);
    return told.items.filter((upload) => upload.state === "receiving" && upload.become === "file");
  }

  const forget = (id) => Tesra.call(`${UPLOADS}/${id}`, { method: "DELETE", headers: { "Tus-Resumable": "1.0.0" } });

  return { group, large, unfinished, forget, remembered, fingerprint, address: (id) => `${UPLOADS}/${id}` };
})();
