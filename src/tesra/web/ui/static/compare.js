// Charts of several runs over each other, and a table that can show the differences alone.
"use strict";
(() => {
  const LIVE_MS = 10000;

  async function start() {
    for (const mark of document.querySelectorAll("[data-mark]")) {
      mark.style.backgroundColor = TesraCharts.colour(Number(mark.dataset.mark));
    }
    const told = document.getElementById("compare-runs");
    if (!told) return;
    const only = document.getElementById("only-differences");
    only.onchange = () => document.getElementById("compare").classList.toggle("only-differences", only.checked);
    const runs = JSON.parse(told.textContent);
    const grid = new TesraMetricGrid(document.getElementById("compare-charts"), {
      words: document.getElementById("words-charts").dataset,
    });
    await show(grid, runs);
    if (told.dataset.live === "yes") {
      setInterval(() => { if (!document.hidden) show(grid, runs); }, LIVE_MS);
    }
  }

  async function show(grid, runs) {
    const all = await Promise.all(runs.map((run) => Tesra.callJson(`/api/v1/runs/${run}/metrics`).catch(() => null)));
    const sources = runs.map((run, place) => ({
      api: `/api/v1/runs/${run}`, rank: null, label: run.slice(-6),
      names: new Map((all[place]?.names ?? []).map(({ name, ranks }) => [name, ranks])),
    }));
    const names = [...new Set(sources.flatMap((source) => [...source.names.keys()]))];
    grid.show(names.sort(TesraMetricGrid.order), sources);
  }

  document.addEventListener("DOMContentLoaded", start);
})();
