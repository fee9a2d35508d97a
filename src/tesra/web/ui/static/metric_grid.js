// A grid of charts, one for each metric, of one run or of several: filtered, loaded when it comes
// into view, redrawn as values come. A thousand metrics are a thousand light cards.
"use strict";
class TesraMetricGrid {
  static POINTS = 500;
  static AT_ONCE = 50; // names in one request
  static REDRAW_MS = 400;

  /** `sources`: [{label, api, rank, names: Map of name → [ranks]}]; `csv`: name → address, or null. */
  constructor(root, { words, csv = () => null, chosen = null }) {
    this.root = root;
    this.words = words;
    this.csv = csv;
    this.chosen = chosen;
    this.grid = root.querySelector("[data-grid]");
    this.sources = [];
    this.cards = new Map();
    this.wanted = new Set();
    this.dirty = new Set();
    this.seen = new IntersectionObserver((all) => this.appear(all), { rootMargin: "300px" });
    this.sized = new ResizeObserver(() => this.resize());
    this.sized.observe(this.grid);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redrawAll());
    this.controls();
  }

  /** Losses, then what stands by itself, then the groups; layer2 before layer10. */
  static order(one, other) {
    const place = (name) => (/loss/i.test(name) ? 0 : name.includes("/") ? 2 : 1);
    return place(one) - place(other) || one.localeCompare(other, undefined, { numeric: true });
  }

  controls() {
    const part = (name) => this.root.querySelector(`[data-${name}]`);
    this.look = { axis: "step", smooth: 0, log: false };
    this.filter = part("filter");
    this.filter.addEventListener("input", () => this.arrange());
    part("axis").onchange = ({ target }) => { this.look = { ...this.look, axis: target.value }; this.reload(); };
    part("smooth").oninput = ({ target }) => { this.look = { ...this.look, smooth: Number(target.value) }; this.redrawAll(); };
    part("logscale").onchange = ({ target }) => { this.look = { ...this.look, log: target.checked }; this.redrawAll(); };
  }

  /** What is drawn: names in order, and where each comes from. */
  show(names, sources) {
    this.sources = sources;
    this.names = names;
    for (const name of names) if (!this.cards.has(name)) this.add(name);
    for (const [name, one] of this.cards) if (!names.includes(name)) this.remove(name, one);
    this.arrange();
    this.reload();
  }

  add(name) {
    const card = TesraCharts.card(name, this.words, { csv: this.csv(name) });
    card.dataset.name = name;
    const one = { name, card, near: false, lines: null, chart: null };
    card.addEventListener("resized", () => { one.chart?.resize(); });
    this.cards.set(name, one);
    this.seen.observe(card);
  }

  remove(name, one) {
    one.chart?.destroy();
    this.seen.unobserve(one.card);
    one.card.remove();
    this.cards.delete(name);
  }

  /** Order and filter; only the cards that fit stand in the grid. */
  arrange() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (name) => words.every((word) => name.toLowerCase().includes(word));
    const shown = (this.names ?? []).filter(fits);
    this.grid.replaceChildren(...shown.map((name) => this.cards.get(name).card));
    const count = this.root.querySelector("[data-count]");
    count.textContent = this.words.count.replace("{n}", shown.length.toLocaleString()).replace("{total}", (this.names ?? []).length.toLocaleString());
    this.root.querySelector("[data-none]").hidden = (this.names ?? []).length > 0;
  }

  appear(entries) {
    for (const entry of entries) {
      const one = this.cards.get(entry.target.dataset.name);
      if (!one) continue;
      one.near = entry.isIntersecting;
      if (one.near && !one.lines) this.want(one.name);
      else if (one.near) this.mark(one);
      else if (one.chart) {
        one.chart.destroy();
        one.chart = null;
      }
    }
  }

  want(name) {
    this.wanted.add(name);
    this.asking ??= setTimeout(() => this.fetch(), 30);
  }

  /** All that is in view anew; the rest when it comes into view. */
  reload() {
    for (const one of this.cards.values()) {
      one.lines = null;
      if (one.near) this.want(one.name);
    }
  }

  async fetch() {
    const names = [...this.wanted];
    this.wanted.clear();
    this.asking = null;
    const axis = this.look.axis;
    const gathered = new Map(names.map((name) => [name, []]));
    await Promise.all(this.sources.map((source, place) => this.fetchFrom(source, place, names, axis, gathered)));
    if (axis !== this.look.axis) return;
    for (const [name, lines] of gathered) {
      const one = this.cards.get(name);
      if (!one) continue;
      one.lines = lines.sort((a, b) => a.place - b.place);
      this.mark(one);
    }
  }

  async fetchFrom(source, place, names, axis, gathered) {
    const has = names.filter((name) => {
      const ranks = source.names.get(name);
      return ranks && (source.rank === null || ranks.includes(source.rank));
    });
    for (let at = 0; at < has.length; at += TesraMetricGrid.AT_ONCE) {
      const asked = new URLSearchParams({ points: TesraMetricGrid.POINTS, x: axis });
      has.slice(at, at + TesraMetricGrid.AT_ONCE).forEach((name) => asked.append("name", name));
      if (source.rank !== null) asked.set("rank", source.rank);
      const told = await Tesra.callJson(`${source.api}/metrics/history?${asked}`).catch(() => null);
      for (const series of told?.series ?? []) {
        gathered.get(series.name)?.push({
          place, label: source.label, colour: TesraCharts.colour(place), rank: series.rank,
          xs: axis === "time" ? series.times : series.steps, ys: series.values,
        });
      }
    }
  }

  /** New values of the run that is watched. */
  take(values) {
    for (const { name, rank, step, value, at } of values) {
      const one = this.cards.get(name);
      const line = one?.lines?.find((some) => some.rank === rank);
      if (!line) continue;
      const x = this.look.axis === "time" ? Date.parse(at) / 1000 : step;
      if (line.xs.length && x <= line.xs.at(-1)) continue;
      line.xs.push(x);
      line.ys.push(typeof value === "number" ? value : null);
      if (line.xs.length > TesraMetricGrid.POINTS * 3) {
        one.lines = null;
        if (one.near) this.want(name);
      } else this.mark(one);
    }
  }

  mark(one) {
    if (!one.near || !one.lines) return;
    this.dirty.add(one);
    this.redrawing ??= setTimeout(() => requestAnimationFrame(() => this.redraw()), one.chart ? TesraMetricGrid.REDRAW_MS : 0);
  }

  redraw() {
    this.redrawing = null;
    const until = performance.now() + 12;
    for (const one of this.dirty) {
      if (performance.now() > until) break;
      this.dirty.delete(one);
      if (!one.near || !one.lines || !one.card.isConnected) continue;
      one.chart ??= new TesraCharts.Chart(one.card, { title: one.name, sync: "metrics" });
      one.chart.set(one.lines, this.look);
    }
    if (this.dirty.size) this.redrawing = setTimeout(() => requestAnimationFrame(() => this.redraw()), 16);
  }

  redrawAll() {
    for (const one of this.cards.values()) {
      one.chart?.destroy();
      one.chart = null;
      this.mark(one);
    }
  }

  resize() {
    for (const one of this.cards.values()) one.chart?.resize();
  }
}
