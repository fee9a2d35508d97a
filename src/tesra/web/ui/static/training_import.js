// A folder or an archive of this device becomes a project: shown before, sent in parts that go on
// after a pause, a lost connection, an ended session or a reload.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const { $ } = Tesra;
  const words = $("#words-import").dataset;
  const zone = $("[data-drop]");
  const form = $("form[data-send]");
  const ARCHIVE = /\.(zip|tar|tgz|tar\.(gz|xz|bz2|zst))$/i;
  const language = document.documentElement.lang;
  let chosen = null; // {name, files, out} of a folder, or of one archive
  let upload = null;
  let paused = false;

  const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const number = (value) => new Intl.NumberFormat(language).format(value);

  function size(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    const at = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
    return `${number(Number((bytes / 1024 ** at).toFixed(at ? 1 : 0)))} ${units[at]}`;
  }

  // --- choosing ----------------------------------------------------------------------------------
  function show(found) {
    chosen = found;
    fail("");
    form.hidden = false;
    const name = form.elements.project;
    if (!name.value || name.dataset.guessed) {
      name.value = found.name.replace(ARCHIVE, "").replace(/[/\\?#%]/g, "-");
      name.dataset.guessed = "yes";
    }
    const total = found.files.reduce((sum, { file }) => sum + file.size, 0);
    const said = found.archive
      ? filled(words.archive, { name: found.archive.name, size: size(found.archive.size) })
      : filled(words.summary, { files: number(found.files.length), size: size(total) });
    $("[data-summary]", form).textContent = said;
    const out = $("[data-left-out]", form);
    out.hidden = !found.out.length;
    $("summary", out).textContent = filled(words.leftOut, { files: number(found.out.length) });
    $("ul", out).replaceChildren(...found.out.slice(0, 200).map((path) => {
      const item = document.createElement("li");
      item.textContent = path;
      return item;
    }));
    $("[data-go]", form).disabled = !found.archive && !found.files.length;
    if ($("[data-go]", form).disabled) fail(words.nothing);
    $("[data-progress]", form).hidden = true;
    name.focus();
  }

  const archiveOf = (file) => ({ name: file.name, archive: file, files: [{ path: file.name, file }], out: [] });

  async function take(entries, files) {
    if (entries.length === 1 && entries[0].isDirectory) return show(await TesraFiles.fromFolder(entries[0]));
    if (files.length === 1 && ARCHIVE.test(files[0].name)) return show(archiveOf(files[0]));
    if (entries.some((entry) => entry.isDirectory)) return fail(words.tooMany);
    return show({ ...(await TesraFiles.fromList(files)), name: files[0].name.replace(/\.[^.]*$/, "") });
  }

  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    if (upload) return;
    const items = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const entries = items.map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const files = [...event.dataTransfer.files];
    if (files.length) take(entries, files).catch((error) => fail(error.message));
  });
  $("[data-choose-folder]").addEventListener("change", async (event) => {
    if (event.target.files.length) show(await TesraFiles.fromList(event.target.files));
    event.target.value = "";
  });
  $("[data-choose-archive]").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) show(archiveOf(file));
    event.target.value = "";
  });
  form.elements.project.addEventListener("input", () => { delete form.elements.project.dataset.guessed; });

  // --- sending -----------------------------------------------------------------------------------
  function fail(text) {
    const box = $("[data-send-error]", form);
    box.textContent = text;
    box.hidden = !text;
    if (text) form.hidden = false;
  }

  function busy(on) {
    $("[data-go]", form).hidden = on;
    $("[data-pause]", form).hidden = !on;
    $("[data-pause]", form).textContent = words.pause;
    form.elements.project.readOnly = on;
    zone.classList.toggle("busy", on);
  }

  function progress(sent, total, note = "") {
    $("[data-progress]", form).hidden = false;
    $("progress", form).value = total ? (100 * sent) / total : 0;
    const said = filled(words.sending, { sent: size(sent), total: size(total) });
    $("[data-progress-text]", form).textContent = note || said;
  }

  function stop(text) {
    upload = null;
    busy(false);
    fail(text);
  }

  async function landed(id) {
    progress(1, 1, words.landing);
    $("[data-pause]", form).hidden = true;
    for (;;) {
      const told = await Tesra.callJson(`/api/v1/uploads/${encodeURIComponent(id)}`);
      if (told.state === "landed") {
        location.assign(`/training/projects/${encodeURIComponent(told.project)}`);
        return;
      }
      if (told.state === "refused") throw new Error([told.error?.detail, told.error?.way_out].filter(Boolean).join(" "));
      await new Promise((resolve) => setTimeout(resolve, 700));
    }
  }

  const told = (error) => {
    try {
      const problem = JSON.parse(error.originalResponse?.getBody() ?? "");
      return [problem.detail, problem.way_out].filter(Boolean).join(" ");
    } catch {
      return $("#words-app").dataset.failed;
    }
  };

  async function send() {
    const project = form.elements.project.value.trim();
    const body = chosen.archive ?? TesraFiles.tarOf(chosen.files);
    const mark = TesraFiles.fingerprint(project, chosen.files);
    let resumed = false;
    busy(true);
    fail("");
    paused = false;
    upload = new tus.Upload(body, {
      endpoint: "/api/v1/uploads",
      metadata: { as: "project", project, filename: chosen.archive?.name ?? `${project}.tar` },
      retryDelays: [0, 1000, 3000, 5000, 10000, 20000, 30000],
      removeFingerprintOnSuccess: true,
      fingerprint: async () => mark,
      onBeforeRequest: (request) => request.setHeader("X-CSRF-Token", Tesra.csrf()),
      onShouldRetry: (error) => ![401, 403, 413, 422].includes(error.originalResponse?.getStatus() ?? 0),
      onProgress: (sent, total) => progress(sent, total, resumed ? words.resumed : ""),
      onSuccess: () => landed(upload.url.split("/").pop()).catch((error) => stop(error.message)),
      onError: async (error) => {
        if (error.originalResponse?.getStatus() === 401) {
          await Tesra.sessionAgain();
          upload.start();
        } else stop(told(error));
      },
    });
    progress(0, body.size);
    const before = await upload.findPreviousUploads();
    if (before.length) {
      resumed = true;
      upload.resumeFromPreviousUpload(before[0]);
    }
    upload.start();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!upload && chosen) send();
  });
  $("[data-pause]", form).addEventListener("click", async () => {
    const button = $("[data-pause]", form);
    paused = !paused;
    button.textContent = paused ? words.goOn : words.pause;
    if (paused) {
      await upload.abort();
      $("[data-progress-text]", form).textContent = words.paused;
    } else upload.start();
  });
  $("[data-cancel]", form).addEventListener("click", async () => {
    const going = upload;
    stop("");
    form.hidden = true;
    chosen = null;
    await going?.abort(true).catch(() => {});
  });
  addEventListener("beforeunload", (event) => { if (upload && !paused && $("[data-pause]", form).hidden === false) event.preventDefault(); });

  // --- from the drive ----------------------------------------------------------------------------
  $("[data-pick-path]").addEventListener("click", async () => {
    const path = await TesraDrive.pick();
    if (path !== null) $("#f-path").value = path;
  });
});
