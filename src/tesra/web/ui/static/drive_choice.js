// What a person drops or picks for the drive: its files and empty folders, and what is to become of
// names that are taken.
"use strict";
const DriveChoice = (() => {
  const $ = (...asked) => Tesra.$(...asked); // app.js is loaded after this
  const NAME_BYTES = 255;
  const words = () => $("#words-upload").dataset;
  const bytes = new TextEncoder();
  const join = (base, name) => `${base === "/" ? "" : base}/${name}`;

  const fileOf = (entry) => new Promise((resolve, reject) => { entry.file(resolve, reject); });
  const someOf = (reader) => new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });

  async function walk(entry, above, found) {
    const name = above ? `${above}/${entry.name}` : entry.name;
    if (entry.isFile) {
      found.files.push({ name, file: await fileOf(entry) });
      return;
    }
    const reader = entry.createReader();
    let empty = true;
    for (let some = await someOf(reader); some.length; some = await someOf(reader)) {
      empty = false;
      for (const below of some) await walk(below, name, found);
    }
    if (empty) found.folders.push(name);
  }

  /** The files of a drop, and its folders that are empty. */
  async function dropped(transfer) {
    const found = { files: [], folders: [] };
    const items = [...transfer.items].filter((item) => item.kind === "file");
    const seen = items.map((item) => [item.webkitGetAsEntry(), item.getAsFile()]); // both end with the event
    for (const [entry, file] of seen) {
      if (entry) await walk(entry, "", found);
      else if (file) found.files.push({ name: file.name, file });
    }
    return found;
  }

  const picked = (list) => ({
    files: [...list].map((file) => ({ name: file.webkitRelativePath || file.name, file })), folders: [],
  });

  /** Why a name can't be kept, in words. */
  function nameFault(name) {
    for (const part of name.split("/")) {
      if (bytes.encode(part).length > NAME_BYTES) return words().tooLong;
      if (!part || part === "." || part === ".." || part.includes("\0") || !part.isWellFormed()) return words().badName;
    }
    return null;
  }

  async function standing(names, folder) {
    const there = [];
    for (let start = 0; start < names.length; start += 1000) {
      const paths = names.slice(start, start + 1000).map((name) => join(folder, name));
      const told = await Tesra.callJson("/api/v1/drive/entries", { method: "POST", json: { paths } });
      there.push(...told.entries.map((entry) => entry.name));
    }
    return new Set(there);
  }

  /** What is to become of names that are taken: a map to other names (null: left out); null: nothing at all. */
  async function settle(names, folder) {
    const tops = [...new Set(names.map((name) => name.split("/")[0]))].filter((name) => !nameFault(name));
    const renamed = new Map();
    const taken = tops.length ? await standing(tops, folder).catch(() => new Set()) : new Set();
    if (!taken.size) return renamed;
    const answer = await askAbout([...taken]);
    if (answer === "cancel") return null;
    if (answer === "skip") taken.forEach((name) => renamed.set(name, null));
    for (let open = [...taken], copy = 2; answer === "both" && open.length && copy < 100; copy += 1) {
      const wanted = new Map(open.map((name) => [name, numbered(name, copy)]));
      const there = await standing([...wanted.values()], folder);
      open.filter((name) => !there.has(wanted.get(name))).forEach((name) => renamed.set(name, wanted.get(name)));
      open = open.filter((name) => there.has(wanted.get(name)));
    }
    return renamed;
  }

  function numbered(name, copy) {
    const dot = name.lastIndexOf(".");
    return dot > 0 ? `${name.slice(0, dot)} (${copy})${name.slice(dot)}` : `${name} (${copy})`;
  }

  function askAbout(names) {
    const dialog = $("#conflicts");
    $("[data-conflict-list]", dialog).replaceChildren(...names.slice(0, 100).map((name) => {
      const line = document.createElement("li");
      line.className = "long";
      const text = document.createElement("bdi");
      text.textContent = name;
      line.append(text);
      return line;
    }));
    dialog.returnValue = "cancel";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue || "cancel"), { once: true });
    });
  }

  return { dropped, picked, nameFault, settle, join };
})();
