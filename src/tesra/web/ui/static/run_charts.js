// The charts of a run's page: its metrics by rank, and the use of its devices.
"use strict";
class TesraRunCharts {
  static MOST_RANKS = 16; // drawn together
  static USES = {
    use: { say: TesraCharts.percent, range: TesraCharts.fromZero(1), incrs: [0.25, 0.5, 1, 2, 5, 10, 25, 50, 100] },
    memory_bytes: { say: TesraCharts.bytes, range: TesraCharts.fromZero(1024), incrs: Array.from({ length: 45 }, (_, power) => 2 ** power) },
    power_w: { say: (value) => (value === null || value === undefined ? "–" : `${TesraCharts.short(value)} W`), range: TesraCharts.fromZero(1) },
  };

  static make(root) {
    return new TesraRunCharts(root);
  }

  constructor(root) {
    this.api = root.dataset.api;
    this.words = document.getElementById("words-charts").dataset;
    this.tab = document.getElementById("tab-charts");
    this.known = new Map(); // name → ranks
    this.opened = false;
    const page = root.dataset.page;
    this.grid = new TesraMetricGrid(this.tab, {
      words: this.words,
      csv: (name) => `${page}/metrics.csv?${new URLSearchParams({ name })}`,
    });
    this.rank = this.tab.querySelector("[data-rank]");
    if (this.rank) this.rank.onchange = () => this.arrange();
    this.devices = new Map();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.drawDevices({ anew: true }));
  }

  /** When the tab is first looked at. */
  open() {
    if (this.opened) this.drawDevices(); // nothing is drawn while the tab is hidden
    else {
      this.opened = true;
      this.reload();
    }
  }

  async reload() {
    if (!this.opened) return;
    const told = await Tesra.callJson(`${this.api}/metrics`).catch(() => null);
    if (!told) {
      setTimeout(() => this.reload(), 3000);
      return;
    }
    this.known = new Map(told.names.map(({ name, ranks }) => [name, ranks]));
    const notes = this.tab.querySelector("[data-notes]");
    notes.textContent = told.notes.join(" ");
    notes.hidden = told.notes.length === 0;
    this.arrange();
    this.readDevices();
  }

  arrange() {
    const chosen = this.rank?.value ?? "";
    const ranks = [...new Set([...this.known.values()].flat())].sort((a, b) => a - b);
    const source = (rank, label) => ({ api: this.api, rank, label, names: this.known });
    const sources = chosen === "all"
      ? ranks.slice(0, TesraRunCharts.MOST_RANKS).map((rank) => source(rank, `${this.words.rank} ${rank}`))
      : [source(chosen === "" ? null : Number(chosen), chosen === "" ? this.words.value : `${this.words.rank} ${chosen}`)];
    const names = [...this.known.keys()].sort(TesraMetricGrid.order).filter((name) => chosen === "" || chosen === "all" || this.known.get(name).includes(Number(chosen)));
    this.grid.show(names, sources);
  }

  /** The stream's newest values. */
  take({ values }) {
    if (!this.opened) return;
    this.grid.take(values);
    const fresh = values.some(({ name, rank }) => !this.known.get(name)?.includes(rank));
    if (fresh) this.renewing ??= setTimeout(() => { this.renewing = null; this.reload(); }, 1000);
  }

  // --- devices ---------------------------------------------------------------------------------
  async readDevices() {
    const told = await Tesra.callJson(`${this.api}/metrics/devices?points=300`).catch(() => null);
    if (!told) return;
    for (const one of this.devices.values()) one.lines.clear();
    for (const series of told.series) {
      this.lineOf(series.name, series).xs = series.times;
      this.lineOf(series.name, series).ys = series.values;
    }
    this.drawDevices();
  }

  lineOf(use, { device, index, node }) {
    if (!this.devices.has(use)) this.addUse(use);
    const { lines } = this.devices.get(use);
    if (!lines.has(device)) {
      const label = `${this.words.device} ${index}${node ? ` (${node})` : ""}`;
      lines.set(device, { label, colour: TesraCharts.colour(lines.size), xs: [], ys: [] });
    }
    return lines.get(device);
  }

  addUse(use) {
    const title = this.words[`use_${use}`] ?? use;
    const card = TesraCharts.card(title, this.words);
    this.tab.querySelector("[data-device-grid]").append(card);
    const chart = new TesraCharts.Chart(card, { title, ...TesraRunCharts.USES[use], sync: "devices" });
    card.addEventListener("resized", () => chart.resize());
    new ResizeObserver(() => chart.resize()).observe(card);
    this.devices.set(use, { card, chart, lines: new Map() });
    this.tab.querySelector("[data-devices]").hidden = false;
  }

  use({ devices }) {
    if (!this.opened) return;
    for (const sample of devices) {
      for (const use of Object.keys(TesraRunCharts.USES)) {
        if (sample[use] === undefined || sample[use] === null) continue;
        const line = this.lineOf(use, { ...sample, node: "" });
        const at = Date.parse(sample.at) / 1000;
        if (line.xs.length && at <= line.xs.at(-1)) continue;
        line.xs.push(at);
        line.ys.push(sample[use]);
      }
    }
    this.drawDevices();
  }

  drawDevices({ anew = false } = {}) {
    if (this.tab.hidden) return;
    for (const { chart, lines } of this.devices.values()) {
      if (anew) chart.destroy();
      chart.set([...lines.values()], { axis: "time", smooth: 0, log: false });
    }
  }
}
