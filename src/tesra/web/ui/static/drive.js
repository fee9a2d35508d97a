// A folder's list: choosing, keys, and what takes a moment to find out (when changed, how well kept).
"use strict";
const Drive = (() => {
  const $ = (...asked) => Tesra.$(...asked); // app.js is loaded after this
  const all = (...asked) => Tesra.all(...asked);
  const AT_ONCE = 100;
  const words = () => $("#words-drive").dataset;
  const language = document.documentElement.lang;
  const number = new Intl.NumberFormat(language);

  // --- what takes a moment ------------------------------------------------------------------
  const count = (value, one, many) => (value === 1 ? one : many.replace("{n}", number.format(value)));

  function time(at) {
    const element = document.createElement("time");
    element.dateTime = at;
    element.tabIndex = 0;
    return element;
  }

  /** A text in which "{t}" stands for a time. */
  function timed(target, text, at) {
    const [before, behind] = text.split("{t}");
    target.replaceChildren(before, time(at), behind ?? "");
  }

  function keptWords(entry) {
    const said = words();
    if (entry.state === "locked") return said.locked;
    const told = `${count(entry.copies, said.copiesOne, said.copies)}${said.and}${count(entry.machines, said.machinesOne, said.machines)}`;
    return entry.state === "offline" ? `${told}${said.and}${said.away}` : told;
  }

  const COLOURS = { good: "bg-green-lt", degraded: "bg-yellow-lt", offline: "bg-orange-lt", locked: "bg-red-lt" };

  function show(row, entry) {
    const changed = $("[data-changed]", row), kept = $("[data-kept-by]", row), proof = $("[data-proof]", row);
    if (changed && entry.changed_at) {
      if (entry.changed_exact) changed.replaceChildren(time(entry.changed_at));
      else timed(changed, words().earlier, entry.changed_at);
    }
    if (kept && entry.state) {
      const badge = document.createElement("span");
      badge.className = `badge ${COLOURS[entry.state]}`;
      badge.textContent = keptWords(entry);
      kept.replaceChildren(badge);
      if (entry.last_proof) badge.title = words().proven.replace("{t}", Tesra.ago(new Date(entry.last_proof), language));
      else badge.title = words().never;
    }
    if (proof && entry.state) {
      if (entry.last_proof) proof.replaceChildren(time(entry.last_proof));
      else proof.textContent = words().never;
    }
    Tesra.tellTimes(row);
  }

  async function look() {
    const rows = new Map(all("#drive-list [data-path]").map((row) => [row.dataset.path, row]));
    const paths = [...rows.keys()];
    for (let start = 0; start < paths.length; start += AT_ONCE) {
      const asked = { paths: paths.slice(start, start + AT_ONCE), changed: true, health: true };
      const told = await Tesra.callJson("/api/v1/drive/entries", { method: "POST", json: asked }).catch(() => null);
      for (const entry of told?.entries ?? []) {
        const row = rows.get(entry.path);
        if (row?.isConnected) show(row, entry);
      }
    }
  }

  // --- choosing -----------------------------------------------------------------------------
  const boxes = () => all('#selection input[name="path"]');

  function tellChosen() {
    const some = boxes().filter((box) => box.checked).length;
    const line = $("[data-chosen]"), every = $("[data-choose-all]");
    if (!line) return;
    line.textContent = some ? words().chosenSome.replace("{n}", number.format(some)) : words().chosenNone;
    if (every) {
      every.checked = some > 0 && some === boxes().length;
      every.indeterminate = some > 0 && some < boxes().length;
    }
  }

  let last = null; // the box that was clicked last, for choosing a range with Shift

  function onClick(event) {
    const box = event.target.closest?.('#selection input[name="path"]');
    if (!box) return;
    const now = boxes();
    if (event.shiftKey && last?.isConnected) {
      const [from, to] = [now.indexOf(last), now.indexOf(box)].sort((a, b) => a - b);
      now.slice(from, to + 1).forEach((one) => { one.checked = box.checked; });
    }
    last = box;
    tellChosen();
  }

  function onChange(event) {
    if (event.target.matches?.("[data-choose-all]")) {
      boxes().forEach((box) => { box.checked = event.target.checked; });
    }
    tellChosen();
  }

  function onKey(event) {
    if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    const chosen = boxes().filter((box) => box.checked);
    if (event.key === "Delete" && chosen.length) {
      event.preventDefault();
      $("#selection").requestSubmit($("[data-delete]"));
    } else if (event.key === "F2" && chosen.length === 1) {
      event.preventDefault();
      location.href = `/drive/rename?path=${encodeURIComponent(chosen[0].value)}`;
    } else if (event.key === "/" && $("#drive-search")) {
      event.preventDefault();
      $("#drive-search").focus();
    }
  }

  /** A second click sends nothing; a download leaves the page as it is. */
  function onSubmit(event) {
    if (event.target.id !== "selection" || event.submitter?.hasAttribute("data-stays")) return;
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "yes";
  }

  /** The list as the server has it now, in the place of the one that is shown. */
  async function refresh() {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
    const fresh = answer?.ok ? new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("drive-list") : null;
    if (!fresh) return;
    const chosen = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
    all('input[name="csrf"]', fresh).forEach((field) => { field.value = Tesra.csrf(); });
    $("#drive-list").replaceWith(fresh);
    boxes().forEach((box) => { box.checked = chosen.has(box.value); });
    tellChosen();
    await look();
  }

  document.addEventListener("DOMContentLoaded", () => {
    if ($("[data-undo]")) history.replaceState(null, "", location.pathname);
    if (!$("#drive-list")) return;
    document.addEventListener("click", onClick);
    document.addEventListener("change", onChange);
    document.addEventListener("keydown", onKey);
    document.addEventListener("submit", onSubmit);
    addEventListener("pageshow", () => { const form = $("#selection"); if (form) delete form.dataset.sent; });
    tellChosen();
    look();
  });
  return { refresh };
})();
