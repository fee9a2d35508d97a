// One small chart in a card: lines over steps or time, gaps where a value is not finite, values
// under the pointer, smoothed or logarithmic as the page wants it.
"use strict";
const TesraCharts = (() => {
  const COLOURS = ["#4a86e8", "#d9622b", "#3d9a50", "#b04ac0", "#c79a00", "#1f9ea8", "#d1497a", "#8a6f4d"];
  const colour = (place) => COLOURS[place % COLOURS.length];
  const WHOLE = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((one) => one * 10 ** power)).flat(); // there is no half a step
  const language = () => document.documentElement.lang;

  /** A value in few characters. */
  function short(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(2);
    return new Intl.NumberFormat(language(), { maximumSignificantDigits: 5 }).format(value);
  }

  function bytes(value) {
    if (value === null || value === undefined) return "–";
    let left = value;
    let unit = 0;
    while (Math.abs(left) >= 1024 && unit < 4) { left /= 1024; unit += 1; }
    return `${short(Number(left.toFixed(1)))} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
  }

  const percent = (value) => (value === null || value === undefined ? "–" : new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(value));

  function clock(seconds, withDay) {
    const options = withDay ? { month: "numeric", day: "numeric", hour: "2-digit", minute: "2-digit" } : { hour: "2-digit", minute: "2-digit", second: "2-digit" };
    return new Intl.DateTimeFormat(language(), { ...options, hourCycle: "h23" }).format(new Date(seconds * 1000));
  }

  /** Exponential mean that begins without a bias; a gap stays one. */
  function smoothed(values, weight) {
    let mean = 0;
    let scale = 1;
    return values.map((value) => {
      if (value === null || value === undefined) return value;
      mean = mean * weight + value * (1 - weight);
      scale *= weight;
      return mean / (1 - scale);
    });
  }

  class Chart {
    /** `say`: how a value is written; `range`: from the lowest and highest value to the axis' ends; `incrs`: what lies between two of its marks. */
    constructor(card, { title, say = short, sync = "run", range = padded, incrs }) {
      this.card = card;
      this.title = title;
      this.say = say;
      this.sync = sync;
      this.range = range;
      this.marks = incrs ? { incrs } : {};
      this.place = card.querySelector("[data-plot]");
      this.told = card.querySelector("[data-value]");
      this.series = [];
      this.look = { axis: "step", smooth: 0, log: false };
    }

    /** Lines: [{label, colour, xs, ys}]; drawn when the page has time. */
    set(series, look = this.look) {
      const sameShape = this.plot && series.length === this.series.length && JSON.stringify(look) === JSON.stringify(this.look);
      this.series = series;
      this.look = look;
      const data = this.data();
      if (sameShape) this.plot.setData(data);
      else this.build(data);
      this.describe();
    }

    data() {
      const { smooth, log } = this.look;
      const plain = (values) => (log ? values.map((value) => (value > 0 ? value : null)) : values);
      const tables = this.series.map(({ xs, ys }) =>
        (smooth ? [xs, plain(ys), plain(smoothed(ys, smooth))] : [xs, plain(ys)]));
      return tables.length === 0 ? [[]] : tables.length === 1 ? tables[0] : uPlot.join(tables);
    }

    build(data) {
      this.plot?.destroy();
      const ink = inkOf("--tblr-secondary-color", this.place);
      const grid = inkOf("--tblr-border-color", this.place);
      const { axis, log, smooth } = this.look;
      const lines = this.series.flatMap(({ label, colour: own, dots }) => {
        const line = dots
          ? { label, stroke: own, paths: () => null, points: { show: true, size: 6, fill: own } }
          : { label, stroke: own, width: 1.5, points: { show: (plot) => plot.data[0].length < 2, size: 5 } };
        return smooth ? [{ ...line, stroke: `${own}55`, width: 1 }, line] : [line];
      });
      const font = "11px system-ui, sans-serif";
      const common = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 }, font };
      this.plot = new uPlot({
        ...this.size(),
        series: [{}, ...lines],
        scales: { x: { time: false, range: (plot, low, high) => (plot.data[0].length === 1 ? around(plot.data[0][0], axis === "time" ? 30 : 1) : [low, high]) }, y: log ? { distr: 3 } : { range: (_, low, high) => this.range(low, high) } },
        axes: [
          { ...common, size: 28, ...(axis === "time" ? { space: 70 } : { space: 45, incrs: WHOLE }), values: (_, splits) => this.below(splits, axis) },
          { ...common, ...this.marks, size: 58, values: (_, splits) => splits.map((one) => (one === null ? "" : this.say(one))) },
        ],
        legend: { show: false },
        cursor: { sync: { key: `${this.sync}-${axis}` }, points: { size: 6 }, y: false },
        hooks: { setCursor: [(plot) => this.point(plot)] },
      }, data, this.place);
    }

    below(splits, axis) {
      if (axis !== "time") return splits.map((one) => new Intl.NumberFormat(language(), { notation: "compact" }).format(one));
      const withDay = splits.length > 1 && splits.at(-1) - splits[0] > 86400;
      return splits.map((one) => clock(one, withDay));
    }

    size() {
      const tall = this.card.classList.contains("wide");
      return { width: Math.max(180, this.place.clientWidth), height: tall ? 380 : 180 };
    }

    resize() {
      if (this.plot) this.plot.setSize(this.size());
    }

    /** The values under the pointer, else the last ones. */
    point(plot) {
      const at = plot.cursor.idx;
      if (at === null || at === undefined) return this.last();
      const x = plot.data[0][at];
      const each = this.series.map((one, place) => {
        const value = plot.data[this.look.smooth ? place * 2 + 2 : place + 1]?.[at];
        return this.named(one, this.say(value ?? null));
      });
      const where = this.look.axis === "time" ? clock(x, false) : x.toLocaleString(language());
      this.write(`${where}: `, each);
    }

    last() {
      this.write("", this.series.map((one) => this.named(one, this.say(one.ys.at(-1) ?? null))));
    }

    named(one, value) {
      return { text: this.series.length > 1 ? `${one.label} ${value}` : value, colour: one.colour };
    }

    write(before, each) {
      this.told.replaceChildren(before, ...each.slice(0, 8).flatMap(({ text, colour: own }) => {
        const mark = document.createElement("i");
        mark.className = "chart-mark";
        mark.style.backgroundColor = own;
        const value = document.createElement("span");
        value.textContent = text;
        return this.series.length > 1 ? [mark, value, " "] : [value];
      }));
    }

    /** What a picture says, in words. */
    describe() {
      if (!this.plot?.cursor || this.plot.cursor.idx === null || this.plot.cursor.idx === undefined) this.last();
      const parts = this.series.map(({ label, xs, ys }) => {
        let low = Infinity;
        let high = -Infinity;
        for (const one of ys) {
          if (one === null || one === undefined) continue;
          if (one < low) low = one;
          if (one > high) high = one;
        }
        const range = low <= high ? `${this.say(low)} … ${this.say(high)}` : "–";
        return `${label}: ${range}; ${this.say(ys.at(-1) ?? null)} (${xs.length})`;
      });
      this.place.setAttribute("role", "img");
      this.place.setAttribute("aria-label", `${this.title}. ${parts.join(". ")}`.slice(0, 1000));
    }

    destroy() {
      this.plot?.destroy();
      this.plot = null;
      this.place.replaceChildren();
    }
  }

  /** A colour of the style sheet as a canvas understands it. */
  function inkOf(name, within) {
    const probe = document.createElement("span");
    probe.style.color = `var(${name}, #888)`;
    within.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  }

  /** A range with some air; a flat line lies in the middle. */
  function padded(low, high) {
    if (low === null || high === null || low === undefined) return [0, 1];
    const air = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
    return [low - air, high + air];
  }

  /** One step or moment alone has room on both sides. */
  const around = (place, room) => [place - room, place + room];

  /** From 0 to `most` at least: what is a share or an amount looks as large as it is. */
  const fromZero = (most) => (_, high) => [0, Math.max(most, (high ?? 0) * 1.06)];

  /** A card to draw in. */
  function card(title, words, { csv } = {}) {
    const box = document.createElement("div");
    box.className = "card chart-card";
    const head = document.createElement("div");
    head.className = "chart-head";
    const name = document.createElement("h3");
    name.className = "chart-title";
    name.textContent = title;
    name.title = title;
    const value = document.createElement("div");
    value.className = "chart-value mono";
    value.dataset.value = "";
    head.append(name);
    if (csv) {
      const link = document.createElement("a");
      link.className = "chart-tool";
      link.href = csv;
      link.textContent = "CSV";
      link.setAttribute("aria-label", `${words.csv}: ${title}`);
      head.append(link);
    }
    const wide = document.createElement("button");
    wide.type = "button";
    wide.className = "chart-tool";
    wide.textContent = "⤢";
    wide.setAttribute("aria-label", `${words.enlarge}: ${title}`);
    wide.setAttribute("aria-pressed", "false");
    head.append(wide);
    const plot = document.createElement("div");
    plot.className = "chart-plot";
    plot.dataset.plot = "";
    box.append(head, value, plot);
    wide.onclick = () => {
      const on = box.classList.toggle("wide");
      wide.setAttribute("aria-pressed", String(on));
      box.dispatchEvent(new CustomEvent("resized"));
    };
    return box;
  }

  return { Chart, card, colour, short, bytes, percent, clock, smoothed, fromZero };
})();
