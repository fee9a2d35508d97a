// The page of a run: its tabs, its stream, and what of it stands in the head.
"use strict";
(() => {
  const $ = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const TABS = ["log", "charts", "tune", "files", "details"];
  let root, words, log, stream, charts, ended;

  // --- tabs: each has an address -------------------------------------------------------------
  function showTab() {
    const asked = location.hash.slice(1).split("/")[0];
    const shown = TABS.includes(asked) ? asked : "log";
    for (const name of TABS) {
      $(`#tab-${name}`).hidden = name !== shown;
      const link = $(`[data-tab="${name}"]`);
      link.classList.toggle("active", name === shown);
      if (name === shown) {
        link.setAttribute("aria-current", "page");
        link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 40; // on a phone not all tabs have room
      }
      else link.removeAttribute("aria-current");
    }
    if (shown === "files" && (!$("#tab-files").dataset.loaded || old.has($("#tab-files")))) renew($("#tab-files"));
    if (shown === "charts") charts.open();
    if (shown === "log" && log.following) log.draw();
  }

  const old = new Set(); // parts that have to be read anew
  const AGAIN_MS = 2000;

  /** Reads a part anew; once more if that is asked for meanwhile, and again when it did not work. */
  async function renew(part) {
    old.add(part);
    if (part.dataset.renewing) return;
    part.dataset.renewing = "yes";
    while (old.delete(part)) {
      if (await loadPart(part)) continue;
      old.add(part);
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
    delete part.dataset.renewing;
  }

  async function loadPart(part, from = part.dataset.from) {
    if (busy()) return false;
    const answer = await Tesra.call(from).catch(() => null);
    if (!answer?.ok) {
      if (!part.dataset.loaded) part.textContent = words.failed;
      return false;
    }
    const told = await answer.text();
    if (busy()) return false;
    part.dataset.loaded = "yes";
    swap(part, told);
    return true;
  }

  /** Somebody answers a question about something on this page: it must stay. */
  const busy = () => Boolean($("dialog[open]"));

  /** The server's own HTML in place of what was there; the focus and open details stay. */
  function swap(part, html) {
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    const open = all("details[open][id]", part).map((one) => one.id);
    part.innerHTML = html;
    for (const id of open) {
      const one = document.getElementById(id);
      if (one) one.open = true;
    }
    if (focused) refocus(document.getElementById(focused));
    Tesra.tellTimes(part);
    part.dispatchEvent(new CustomEvent("swapped"));
  }

  /** A button that has done its work is disabled: then the form's first field. */
  function refocus(element) {
    (element?.disabled ? element.form?.querySelector("input:enabled, select:enabled") : element)?.focus({ preventScroll: true });
  }

  // --- the head ------------------------------------------------------------------------------
  let told = "";
  let headWanted = false;
  let headAt = 0;
  const BASIS_MS = 10_000; // how often at most the head is read for the count that a forecast is drawn from

  function onState(state) {
    figures(state);
    const { phase, reason, attempt, restarts, bill, output, checkpoint, queue, warnings } = state;
    const now = JSON.stringify([state.state, phase, reason, attempt, restarts, bill, output, queue?.place, queue?.why, warnings]);
    if (told !== now) {
      headWanted = true; // also at first: it may have moved on since the page was made
      told = now;
    }
    refreshHead();
    refreshFiles(JSON.stringify([output, checkpoint]));
  }

  let files = ""; // the output and the newest checkpoint, as they were told last

  /** The list of them, at once or when it is looked at; also at first: it may have been read before. */
  function refreshFiles(now) {
    if (files !== now) filesChanged();
    files = now;
  }

  function filesChanged() {
    if ($("#tab-files").hidden) old.add($("#tab-files"));
    else renew($("#tab-files"));
  }

  let refreshing = false;
  async function refreshHead() {
    if (!headWanted || refreshing) return;
    refreshing = true;
    headWanted = false;
    try {
      const answer = await Tesra.call(`${root.dataset.page}/head`);
      if (!answer.ok || busy()) throw new Error("later");
      swap($("#run-head"), await answer.text());
      headAt = Date.now();
    } catch {
      headWanted = true;
      setTimeout(refreshHead, 3000);
    } finally {
      refreshing = false;
    }
  }

  /** Figures that change all the time, written into the head as it stands. */
  function figures({ cost_cny: cost, th, forecast }) {
    const language = document.documentElement.lang;
    const money = new Intl.NumberFormat(language, { style: "currency", currency: "CNY", currencyDisplay: "narrowSymbol" });
    const write = (name, text) => {
      const element = $(`[data-live="${name}"]`);
      if (element && element.textContent !== text) element.textContent = text;
    };
    if (cost !== null) write("cost", money.format(Number(cost)));
    write("th", new Intl.NumberFormat(language, { minimumFractionDigits: 6, maximumFractionDigits: 6 }).format(Number(th)));
    if (forecast?.cost_to_finish) write("to-finish", money.format(Number(forecast.cost_to_finish)));
    const at = $('[data-live="finish"] time');
    if (at && forecast?.finish_at) {
      at.dateTime = forecast.finish_at;
      Tesra.tellTimes(at.parentElement);
    }
    const basis = $("[data-basis]")?.dataset.basis;
    if (forecast?.from && forecast.from !== basis && Date.now() - headAt > BASIS_MS) headWanted = true;
    const box = $("[data-forecast]");
    if (box && box.hidden === Boolean(forecast?.cost_to_finish)) headWanted = true;
  }

  // --- the stream ----------------------------------------------------------------------------
  function line(how) {
    const place = $("#line-state");
    if (how === "live") onLive();
    place.dataset.how = how;
    place.textContent = { live: ended ? "" : words.live, again: words.again, ended: words.over }[how];
  }

  let wasAway = false;
  function onLive() {
    if (wasAway) charts.reload();
    wasAway = false;
  }

  function onEnd() {
    ended = true;
    headWanted = true;
    refreshHead();
    renew($("#tab-tune"));
    filesChanged();
  }

  // --- the log's controls ----------------------------------------------------------------------
  function controls() {
    const follow = $("#log-follow");
    follow.onclick = () => log.follow(!log.following);
    $("#log-wrap").onclick = ({ currentTarget: button }) => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", String(on));
      $("[data-log]").classList.toggle("wrap", on);
      localStorage.setItem("tesra-log-wrap", on ? "1" : "");
      if (log.following) log.draw();
    };
    if (localStorage.getItem("tesra-log-wrap")) $("#log-wrap").click();
    const rank = $("#log-rank");
    if (rank) rank.onchange = () => {
      log.rank = rank.value;
      log.begun = false;
      log.follow(true);
      $("#log-file").href = `${root.dataset.api}/logs.txt${rank.value === "" ? "" : `?rank=${rank.value}`}`;
      stream.again(rank.value);
    };
    log.onState = () => {
      follow.setAttribute("aria-pressed", String(log.following));
      const some = log.waitingLines;
      const text = log.following || !some ? "" : words.waiting.replace("{n}", some.toLocaleString());
      if ($("#log-waiting").textContent !== text) $("#log-waiting").textContent = text;
      $("#log-empty").hidden = log.count > 0 || log.waiting.length > 0 || log.reading || !log.begun;
    };
    $("[data-log]").addEventListener("keydown", (event) => {
      if (event.key === "End") { event.preventDefault(); log.follow(true); }
    });
  }

  // --- search ----------------------------------------------------------------------------------
  let found = { query: "", hits: [], at: -1, next: null };

  async function search(query, after = 0) {
    const asked = new URLSearchParams({ q: query, after, limit: 100 });
    if (log.rank !== "") asked.set("rank", log.rank);
    $("#search-state").textContent = words.searching;
    try {
      const told = await Tesra.callJson(`${root.dataset.api}/logs/search?${asked}`);
      const hits = after ? [...found.hits, ...told.hits] : told.hits;
      found = { query, hits, at: after ? found.at : -1, next: told.next };
    } catch (error) {
      $("#search-state").textContent = error.message;
      return;
    }
    showHits();
  }

  function showHits() {
    const { hits, next, at } = found;
    $("#search-state").textContent = hits.length
      ? words.hits.replace("{n}", `${hits.length.toLocaleString()}${next === null ? "" : "+"}`)
      : next === null ? words.noHits : words.noHitsYet;
    $("#search-more").hidden = next === null;
    $("#search-hits").replaceChildren(...hits.map((hit, place) => hitOf(hit, place, at)));
    $("#search-panel").hidden = false;
  }

  function hitOf(hit, place, at) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "hit";
    if (place === at) button.setAttribute("aria-current", "true");
    if (hit.rank < 0) button.dataset.rank = "tesra";
    else if (log.ranks > 1) button.dataset.rank = String(hit.rank);
    button.textContent = TesraAnsi.read(hit.text.slice(0, 300)).runs.map((run) => run.text).join("");
    button.onclick = () => goTo(place);
    item.append(button);
    return item;
  }

  async function goTo(place) {
    const hit = found.hits[place];
    if (!hit) return;
    found.at = place;
    for (const [number, button] of all("#search-hits .hit").entries()) {
      if (number === place) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    if (!(await log.jump(hit.cursor, hit.line))) Tesra.toast(words.failed, "danger");
  }

  function searching() {
    const field = $("#search-text");
    $("#log-search").addEventListener("submit", async (event) => {
      event.preventDefault();
      const query = field.value;
      if (!query) return;
      if (query === found.query && found.hits.length) return goTo((found.at + 1) % found.hits.length);
      await search(query);
      if (found.hits.length) goTo(0);
    });
    $("#search-more").onclick = () => search(found.query, found.next);
    $("#search-close").onclick = () => {
      $("#search-panel").hidden = true;
      field.value = "";
      found = { query: "", hits: [], at: -1, next: null };
      field.focus();
    };
    document.addEventListener("keydown", (event) => {
      const typing = event.target.closest("input, textarea, select, [contenteditable]");
      if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      location.hash = "log";
      setTimeout(() => field.focus());
    });
  }

  function start() {
    root = $("#run");
    words = $("#words-run").dataset;
    ended = root.dataset.ended === "yes";
    log = new TesraLog(root);
    charts = TesraRunCharts.make(root);
    TesraTune.make($("#tab-tune"), root.dataset.api, () => renew($("#tab-tune")));
    controls();
    searching();
    stream = new TesraStream(`${root.dataset.api}/live`, {
      begin: ({ after }) => log.begin(after),
      log: (data) => log.take(data),
      dropped: (data) => log.dropped(data),
      state: onState,
      metrics: (data) => charts.take(data),
      use: (data) => charts.use(data),
      tune: (data) => TesraTune.take($("#tab-tune"), data, () => renew($("#tab-tune"))),
      end: onEnd,
    }, (how) => {
      if (how === "again") wasAway = true;
      line(how);
    });
    const files = $("#tab-files");
    files.addEventListener("click", (event) => {
      const link = event.target.closest('nav a[href*="/files"]');
      if (!link) return;
      event.preventDefault();
      loadPart(files, link.href);
    });
    addEventListener("hashchange", showTab);
    showTab();
    stream.open();
  }

  document.addEventListener("DOMContentLoaded", start);
})();
