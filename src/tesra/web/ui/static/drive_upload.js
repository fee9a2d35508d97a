// Uploading into the folder that is shown: what was dropped or picked becomes a queue, of which small
// files go in groups and large ones in parts; each can be paused, gone on with, or given up.
"use strict";
(() => {
  const $ = (...asked) => Tesra.$(...asked); // app.js is loaded after this
  const all = (...asked) => Tesra.all(...asked);
  const LARGE_BYTES = 4 * 2 ** 20;
  const GROUP_BYTES = 32 * 2 ** 20;
  const GROUP_FILES = 400;
  const LARGE_AT_ONCE = 2;
  const FAILED_SHOWN = 50;
  const words = () => $("#words-upload").dataset;
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language);

  const items = []; // {file, path, state, sent, why, large, sending, row}
  let held = false; // all is paused
  let offline = false;
  let groupAbort = null;
  let moved = []; // [time, bytes sent] of the last seconds
  let folder = "/";

  const open = (item) => ["waiting", "sending", "landing", "paused"].includes(item.state);
  const { nameFault, join } = DriveChoice;

  function size(count) {
    let value = count, unit = 0;
    for (; value >= 1024 && unit < 4; unit += 1) value /= 1024;
    return `${new Intl.NumberFormat(language, { maximumFractionDigits: unit ? 1 : 0 }).format(value)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
  }

  function duration(seconds) {
    const [value, unit] = seconds < 90 ? [seconds, "second"] : seconds < 5400 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
    return new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "narrow" }).format(Math.max(1, Math.round(value)));
  }

  const fill = (text, values) => text.replace(/\{(\w)\}/g, (_, key) => values[key]);

  // --- what was dropped or picked -------------------------------------------------------------
  /** Asks about names that are taken, then queues. */
  async function take(found) {
    if (!found.files.length && !found.folders.length) {
      Tesra.toast(words().nothing, "warning");
      return;
    }
    const renamed = await DriveChoice.settle([...found.files.map((one) => one.name), ...found.folders], folder);
    if (!renamed) return;
    const placed = (name) => {
      const [top, ...rest] = name.split("/");
      return renamed.has(top) ? renamed.get(top) && [renamed.get(top), ...rest].join("/") : name;
    };
    await warnOfRoom(found.files.reduce((total, { file }) => total + file.size, 0));
    for (const { name, file } of found.files) {
      const target = placed(name);
      if (target) add(file, target);
    }
    const empty = found.folders.map(placed).filter((name) => name && !nameFault(name));
    if (empty.length) {
      const changes = empty.slice(0, 1000).map((name) => ({ op: "mkdir", path: join(folder, name) }));
      await Tesra.callJson("/api/v1/drive/changes", { method: "POST", json: { changes } }).catch((error) => Tesra.toast(error.message, "danger"));
      if (!found.files.length) await Drive.refresh();
    }
    pump();
  }

  async function warnOfRoom(total) {
    const quota = await Tesra.callJson("/api/v1/drive/quota").catch(() => null);
    const left = quota ? Math.max(0, quota.quota_bytes - quota.used_bytes) : Infinity;
    if (total > left) Tesra.toast(fill(words().noRoom, { a: size(total), l: size(left) }), "warning");
  }

  // --- the queue ------------------------------------------------------------------------------
  function add(file, name, url = null, path = join(folder, name)) {
    const fault = nameFault(name);
    // A name that an archive can't carry goes by itself, however small.
    const large = file.size > LARGE_BYTES || name.includes("\\") || /^.:\//.test(name) || url !== null;
    items.push({ file, path, name, url, large, state: fault ? "failed" : "waiting", why: fault ?? "", final: Boolean(fault), sent: 0, sending: null, row: null });
  }

  function pump() {
    tell();
    if (held) return;
    const running = items.filter((item) => item.large && item.state === "sending").length;
    const next = items.filter((item) => item.large && item.state === "waiting").slice(0, LARGE_AT_ONCE - running);
    next.forEach(sendLarge);
    if (!groupAbort) sendGroup();
  }

  function sendLarge(item) {
    item.state = "sending";
    item.sending ??= DriveSending.large(item.file, item.path, {
      url: item.url,
      onProgress: (sent) => {
        if (!item.sent) moved = []; // what was there from an earlier try was not sent just now
        item.sent = sent;
      },
      onOffline: (is) => { offline = is; },
      onLanding: () => { item.state = "landing"; },
      onDone: () => ended(item, "done"),
      onFailed: (error) => ended(item, "failed", error),
    });
    item.sending.start();
  }

  function ended(item, state, error) {
    if (item.state === "canceled") return;
    item.state = state;
    if (state === "done") item.sent = item.file.size;
    else item.sending = null;
    item.why = error ? (error.code === "unreadable" ? words().unreadable : error.message) : "";
    finishIfDone();
    pump();
  }

  function nextGroup() {
    const waiting = items.filter((item) => !item.large && item.state === "waiting");
    const first = waiting[0];
    if (!first) return [];
    if (first.alone) return [first];
    const chosen = [];
    let total = 0;
    for (const item of waiting) {
      if (item.alone || chosen.length >= (first.atMost ?? GROUP_FILES) || (chosen.length && total + item.file.size > GROUP_BYTES)) break;
      chosen.push(item);
      total += item.file.size;
    }
    return chosen;
  }

  /** The deepest folder that holds all: what is below it is named relative to it. */
  function commonFolder(paths) {
    const parts = paths.map((path) => path.split("/").slice(0, -1));
    let depth = 0;
    while (parts.every((one) => depth < one.length && one[depth] === parts[0][depth])) depth += 1;
    return parts[0].slice(0, depth).join("/");
  }

  async function sendGroup() {
    const group = nextGroup();
    if (!group.length) return;
    const base = commonFolder(group.map((item) => item.path));
    const files = group.map((item) => ({ name: item.path.slice(base.length + 1), file: item.file }));
    const total = group.reduce((sum, item) => sum + item.file.size, 0);
    group.forEach((item) => { item.state = "sending"; });
    groupAbort = new AbortController();
    try {
      await DriveSending.group(base || "/", files, {
        signal: groupAbort.signal,
        onOffline: (is) => { offline = is; },
        onProgress: (loaded) => {
          const share = total ? Math.min(1, loaded / (total + group.length * 1536)) : 1;
          group.forEach((item) => { item.sent = item.file.size * share; });
        },
      });
      group.forEach((item) => { item.state = "done"; item.sent = item.file.size; });
    } catch (error) {
      groupFailed(group, error);
    }
    groupAbort = null;
    finishIfDone();
    pump();
  }

  /** One bad file must not keep the others out: a group that was refused is sent in halves. */
  function groupFailed(group, error) {
    group.forEach((item) => { if (item.state === "sending") { item.state = "waiting"; item.sent = 0; } });
    const left = group.filter((item) => item.state === "waiting");
    if (error.name === "AbortError") return;
    const splits = group.length > 1 && [409, 422].includes(error.status);
    if (splits) left.forEach((item) => { item.atMost = Math.ceil(group.length / 2); });
    else left.forEach((item) => { item.state = "failed"; item.why = error.code === "unreadable" ? words().unreadable : error.message; });
  }

  let refreshing = Promise.resolve();

  function finishIfDone() {
    if (items.some((item) => ["waiting", "sending", "landing"].includes(item.state))) return;
    refreshing = refreshing.then(() => Drive.refresh());
  }

  // --- what is shown ----------------------------------------------------------------------------
  function button(text, act) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "btn btn-sm";
    made.textContent = text;
    made.onclick = act;
    return made;
  }

  function makeRow(name) {
    const row = document.createElement("li");
    row.className = "drive-upload";
    const label = document.createElement("bdi");
    label.className = "long";
    label.textContent = name;
    const side = document.createElement("div");
    side.className = "btn-list align-items-center";
    const bar = document.createElement("progress");
    bar.className = "progress";
    bar.max = 1;
    bar.setAttribute("aria-label", name);
    const why = document.createElement("div");
    why.className = "drive-why text-danger";
    row.append(label, side, bar, why);
    return row;
  }

  function showRow(row, key, { state, share, words: said, buttons, why = "" }) {
    const bar = $("progress", row);
    bar.value = share;
    bar.hidden = state === "failed" || state === "canceled";
    $(".drive-why", row).textContent = why;
    if (row.dataset.shown !== key) {
      row.dataset.shown = key;
      const text = document.createElement("span");
      text.className = "text-secondary";
      text.dataset.state = "";
      $(".btn-list", row).replaceChildren(text, ...buttons.map(([label, act]) => button(label, act)));
    }
    const line = $("[data-state]", row);
    if (line.textContent !== said) line.textContent = said;
  }

  function buttonsOf(item) {
    const said = words();
    if (item.state === "sending") return [[said.pause, () => pauseOne(item)], [said.cancel, () => cancel(item)]];
    if (item.state === "paused") return [[said.resume, () => resume(item)], [said.cancel, () => cancel(item)]];
    if (item.state === "waiting") return [[said.cancel, () => cancel(item)]];
    return item.state === "failed" && !item.final ? [[said.retry, () => resume(item)]] : [];
  }

  function stateWords(item) {
    const said = words();
    if (item.state === "sending" || item.state === "paused") {
      const told = fill(said.progress, { d: size(item.sent), a: size(item.file.size) });
      return item.state === "paused" ? `${said.paused}, ${told}` : told;
    }
    return { waiting: said.waiting, landing: said.landing, done: said.done, canceled: said.canceled, failed: "" }[item.state];
  }

  function tellItems() {
    const list = $("[data-upload-list]");
    const failed = items.filter((item) => !item.large && item.state === "failed").slice(0, FAILED_SHOWN);
    for (const item of [...items.filter((one) => one.large), ...failed]) {
      if (!item.row) {
        item.row = makeRow(item.name);
        list.append(item.row);
      }
      const share = item.file.size ? item.sent / item.file.size : Number(item.state === "done");
      showRow(item.row, item.state, { state: item.state, share, words: stateWords(item), buttons: buttonsOf(item), why: item.why });
    }
    for (const item of items) {
      if (!item.large && item.row && item.state !== "failed") { item.row.remove(); item.row = null; }
    }
    tellSmall(list);
  }

  let smallRow = null;

  function tellSmall(list) {
    const small = items.filter((item) => !item.large && item.state !== "failed" && item.state !== "canceled");
    if (!small.length) { smallRow?.remove(); smallRow = null; return; }
    if (!smallRow) { smallRow = makeRow(""); list.prepend(smallRow); }
    const name = fill(words().small, { n: number.format(small.length) });
    $("bdi", smallRow).textContent = name;
    $("progress", smallRow).setAttribute("aria-label", name);
    const done = small.filter((item) => item.state === "done").length;
    const going = done < small.length;
    showRow(smallRow, going ? "going" : "done", {
      state: "", share: small.reduce((sum, item) => sum + (item.state === "done" ? 1 : item.file.size ? item.sent / item.file.size : 0), 0) / small.length,
      words: going ? fill(words().progress, { d: number.format(done), a: number.format(small.length) }) : words().done,
      buttons: going ? [[words().cancel, cancelSmall]] : [],
    });
  }

  function tell() {
    const said = words();
    $("#upload").hidden = !items.length;
    if (!items.length) return;
    tellItems();
    const counted = items.filter((item) => item.state !== "canceled" && item.state !== "failed");
    const total = counted.reduce((sum, item) => sum + item.file.size, 0);
    const sent = counted.reduce((sum, item) => sum + item.sent, 0);
    const going = items.some(open);
    $("[data-upload-bar]").value = total ? sent / total : Number(!going);
    $("[data-upload-pause]").hidden = !going;
    $("[data-upload-pause]").textContent = held ? said.resumeAll : said.pauseAll;
    $("[data-upload-close]").hidden = going;
    const line = overall(going, total, sent);
    if ($("[data-upload-words]").textContent !== line) $("[data-upload-words]").textContent = line;
  }

  function overall(going, total, sent) {
    const said = words(), now = Date.now();
    if (!going) {
      const done = items.filter((item) => item.state === "done").length, failed = items.filter((item) => item.state === "failed").length;
      moved = [];
      if (failed) return fill(said.someFailed, { n: number.format(failed) });
      return done ? fill(said.allDone, { n: number.format(done) }) : said.canceledAll;
    }
    if (held || !items.some((item) => item.state === "sending" || item.state === "waiting" || item.state === "landing")) { moved = []; return said.paused; }
    if (offline) return said.offline;
    moved.push([now, sent]);
    moved = moved.filter(([at]) => now - at < 8000);
    const [from, before] = moved[0];
    const speed = now > from ? ((sent - before) * 1000) / (now - from) : 0;
    if (speed < 1) return fill(said.progress, { d: size(sent), a: size(total) });
    return fill(said.speed, { d: size(sent), a: size(total), s: size(speed), l: duration((total - sent) / speed) });
  }

  // --- pausing, going on, giving up -------------------------------------------------------------
  function pauseOne(item) {
    item.state = "paused";
    item.sending?.pause();
    pump();
  }

  function resume(item) {
    item.state = "waiting";
    item.why = "";
    pump();
  }

  function cancel(item) {
    item.state = "canceled";
    item.sending?.cancel();
    finishIfDone();
    pump();
  }

  function cancelSmall() {
    items.filter((item) => !item.large && open(item)).forEach((item) => { item.state = "canceled"; });
    groupAbort?.abort();
    finishIfDone();
    pump();
  }

  function holdAll() {
    held = !held;
    if (held) {
      items.filter((item) => item.large && item.state === "sending").forEach((item) => { item.state = "paused"; item.sending?.pause(); });
      groupAbort?.abort();
    } else {
      items.filter((item) => item.state === "paused").forEach((item) => { item.state = "waiting"; });
    }
    pump();
  }

  function close() {
    items.length = 0;
    smallRow = null;
    $("[data-upload-list]").replaceChildren();
    tell();
  }

  // --- uploads that broke off -------------------------------------------------------------------
  async function showUnfinished() {
    const found = await DriveSending.unfinished().catch(() => []);
    const list = $("[data-unfinished-list]");
    list.replaceChildren();
    for (const upload of found) {
      const row = makeRow(upload.path);
      list.append(row);
      showRow(row, "again", {
        state: "paused", share: upload.length ? upload.offset / upload.length : 0,
        words: fill(words().progress, { d: size(upload.offset), a: size(upload.length) }),
        buttons: [[words().chooseAgain, () => chooseAgain(upload, row)], [words().forget, async () => { await DriveSending.forget(upload.id); gone(row); }]],
      });
    }
    $("#unfinished").hidden = !found.length;
  }

  function gone(row) {
    row.remove();
    $("#unfinished").hidden = !$("[data-unfinished-list]").children.length;
  }

  function chooseAgain(upload, row) {
    const input = $("#pick-again");
    input.value = "";
    input.onchange = () => {
      const file = input.files[0];
      if (!file) return;
      const known = DriveSending.remembered(upload.id);
      const same = file.size === upload.length && file.name === upload.filename &&
        (!known || known === DriveSending.fingerprint(upload.path, file));
      if (!same) { Tesra.toast(words().otherFile, "danger"); return; }
      gone(row);
      add(file, upload.filename, DriveSending.address(upload.id), upload.path);
      pump();
    };
    input.click();
  }

  // --- the page ---------------------------------------------------------------------------------
  function listen() {
    let depth = 0;
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; $("#drop-here").hidden = false; event.preventDefault(); } });
    addEventListener("dragleave", (event) => { if (hasFiles(event)) { depth -= 1; if (depth <= 0) $("#drop-here").hidden = true; } });
    addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      depth = 0;
      $("#drop-here").hidden = true;
      DriveChoice.dropped(event.dataTransfer).then(take).catch(() => Tesra.toast(words().unreadable, "danger"));
    });
    addEventListener("beforeunload", (event) => {
      if (items.some((item) => ["waiting", "sending", "landing", "paused"].includes(item.state))) event.preventDefault();
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!$("#upload")) return;
    folder = $("#drive-list").dataset.folder;
    for (const kind of ["files", "folder"]) {
      const input = $(`#pick-${kind}`);
      for (const press of all(`[data-pick="${kind}"]`)) {
        press.onclick = () => { press.closest("details").open = false; input.value = ""; input.click(); };
      }
      input.onchange = () => { if (input.files.length) take(DriveChoice.picked(input.files)); };
    }
    $("[data-upload-pause]").onclick = holdAll;
    $("[data-upload-close]").onclick = close;
    listen();
    showUnfinished();
    setInterval(tell, 500);
  });
})();
