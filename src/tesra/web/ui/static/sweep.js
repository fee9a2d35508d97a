// A sweep's page: its history, its parallel coordinates, its table; anew when something changes.
"use strict";
(() => {
  const LEAST_MS = 1500;
  let root, history, parallel, kept, waiting, source;

  const data = () => document.getElementById("sweep-data");

  function draw() {
    const told = JSON.parse(data().textContent);
    parallel.show(told);
    const words = document.getElementById("words-sweep").dataset;
    const done = told.trials.filter((trial) => Number.isFinite(trial.value)).sort((one, other) => one.number - other.number);
    let best = null;
    const bests = done.map((trial) => {
      const counts = trial.state === "completed";
      if (counts && (best === null || (told.mode === "min" ? trial.value < best : trial.value > best))) best = trial.value;
      return best;
    });
    const xs = done.map((trial) => trial.number);
    history.set([
      { label: words.value, colour: TesraCharts.colour(0), xs, ys: done.map((trial) => trial.value), dots: true },
      { label: words.best, colour: TesraCharts.colour(1), xs, ys: bests },
    ]);
    filter();
  }

  function filter() {
    for (const row of document.querySelectorAll("tr[data-trial]")) {
      row.hidden = kept !== null && kept !== undefined && !kept.has(Number(row.dataset.trial));
    }
  }

  async function renew() {
    waiting = null;
    const answer = await Tesra.call(`${root.dataset.page}/standing`).catch(() => null);
    if (!answer?.ok) {
      again();
      return;
    }
    const chosen = new Set([...document.querySelectorAll('input[name="run"]:checked')].map((box) => box.value));
    const focused = document.activeElement?.id;
    const place = document.getElementById("standing");
    place.innerHTML = await answer.text();
    document.getElementById("sweep-state").replaceChildren(...place.querySelector("[data-sweep-state]").childNodes);
    place.querySelector("[data-sweep-state]").remove();
    for (const box of place.querySelectorAll('input[name="run"]')) box.checked = chosen.has(box.value);
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    Tesra.tellTimes(place);
    draw();
    if (data().dataset.live === "no") {
      source?.close();
      if (!document.querySelector("dialog[open]")) location.reload(); // the buttons are others now
    }
  }

  const again = () => { waiting ??= setTimeout(renew, LEAST_MS); };

  function start() {
    root = document.getElementById("sweep");
    history = new TesraCharts.Chart(document.getElementById("history"), { title: document.getElementById("h-history").textContent, sync: "sweep" });
    new ResizeObserver(() => history.resize()).observe(document.getElementById("history"));
    parallel = new TesraParallel(document.getElementById("parallel"), document.getElementById("parallel-told"), (some) => { kept = some; filter(); });
    document.getElementById("parallel").parentElement.addEventListener("pointed", ({ detail }) => {
      for (const row of document.querySelectorAll("tr[data-trial]")) row.classList.toggle("on", Number(row.dataset.trial) === detail);
    });
    draw();
    if (data().dataset.live !== "yes") return;
    source = new EventSource("/api/v1/live");
    source.addEventListener("refresh", again);
    source.addEventListener("runs", (event) => {
      if (root.dataset.page.endsWith(JSON.parse(event.data).sweep)) again();
    });
    source.addEventListener("bill", again);
    setInterval(() => { if (!document.hidden) again(); }, 10000); // values of trials that run
  }

  document.addEventListener("DOMContentLoaded", start);
})();
