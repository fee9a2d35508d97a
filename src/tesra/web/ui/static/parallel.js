// Parallel coordinates: a line for each trial over an axis for each parameter and the metric.
// Hover names a trial, dragging along an axis keeps those within, a double click lets go.
"use strict";
class TesraParallel {
  static NS = "http://www.w3.org/2000/svg";
  static EDGE = { top: 36, bottom: 24, side: 46 };

  /** `told`: where a trial is named. `onKept`: hears the numbers of the trials that are kept. */
  constructor(svg, told, onKept) {
    this.svg = svg;
    this.told = told;
    this.onKept = onKept;
    this.brushes = new Map(); // axis → [low, high] as shares from the bottom
    new ResizeObserver(() => this.draw()).observe(svg.parentElement);
  }

  show({ space, metric, mode, trials }) {
    this.mode = mode;
    this.trials = trials.filter((trial) => Number.isFinite(trial.value));
    const names = Object.keys(space);
    this.axes = [
      ...names.map((name) => TesraParallel.axis(name, (trial) => trial.params[name], this.trials, /^\s*log/.test(space[name]))),
      TesraParallel.axis(metric, (trial) => trial.value, this.trials, false),
    ];
    this.draw();
  }

  static axis(name, read, trials, log) {
    const values = trials.map(read).filter((value) => value !== undefined);
    if (values.length && values.every((value) => typeof value === "number")) {
      const low = Math.min(...values);
      const high = Math.max(...values);
      const at = log && low > 0 ? Math.log : (value) => value;
      const width = at(high) - at(low);
      const share = (trial) => (width ? (at(read(trial)) - at(low)) / width : 0.5);
      return { name, read, share, ends: [TesraCharts.short(low), TesraCharts.short(high)], ticks: [] };
    }
    const kinds = [...new Set(values.map(String))].sort();
    const place = (value) => (kinds.length > 1 ? kinds.indexOf(String(value)) / (kinds.length - 1) : 0.5);
    return { name, read, share: (trial) => place(read(trial)), ends: ["", ""], ticks: kinds.map((kind) => [kind, place(kind)]) };
  }

  draw() {
    const width = this.svg.clientWidth;
    const height = this.svg.clientHeight;
    if (!this.axes || !width) return;
    const { top, bottom, side } = TesraParallel.EDGE;
    this.height = height - top - bottom;
    const gap = this.axes.length > 1 ? (width - 2 * side) / (this.axes.length - 1) : 0;
    this.place = (number) => side + gap * number;
    this.y = (share) => top + (1 - share) * this.height;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren();
    this.paths = this.trials.map((trial) => this.path(trial));
    this.axes.forEach((axis, number) => this.drawAxis(axis, number, gap));
    this.keep();
  }

  make(name, attributes, parent = this.svg) {
    const element = document.createElementNS(TesraParallel.NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  }

  path(trial) {
    const points = this.axes.map((axis, number) => `${this.place(number).toFixed(1)},${this.y(axis.share(trial)).toFixed(1)}`);
    const path = this.make("path", { d: `M${points.join("L")}`, stroke: this.colour(this.axes.at(-1).share(trial)) });
    path.addEventListener("pointerenter", () => this.point(trial, path));
    path.addEventListener("pointerleave", () => this.point(null, path));
    return { trial, path };
  }

  /** From orange (worst) to blue (best). */
  colour(share) {
    const good = this.mode === "min" ? 1 - share : share;
    return `hsl(${Math.round(25 + good * 190)} 75% 48%)`;
  }

  point(trial, path) {
    path.classList.toggle("on", trial !== null);
    this.svg.parentElement.dispatchEvent(new CustomEvent("pointed", { detail: trial?.number ?? null }));
    if (!trial) {
      this.told.textContent = "\u00a0";
      return;
    }
    const value = (one) => (typeof one === "number" ? TesraCharts.short(one) : String(one));
    const parts = this.axes.map((axis) => `${axis.name} ${value(axis.read(trial))}`);
    this.told.textContent = `#${trial.number}: ${parts.join(", ")}`;
  }

  drawAxis(axis, number, gap) {
    const x = this.place(number);
    this.make("line", { class: "axis", x1: x, x2: x, y1: this.y(0), y2: this.y(1) });
    const text = (y, said, anchor = "middle", dx = 0) => {
      const element = this.make("text", { x: x + dx, y, "text-anchor": anchor });
      const most = Math.max(4, Math.floor((gap || 120) / 7));
      element.textContent = said.length > most ? `${said.slice(0, most - 1)}…` : said;
    };
    text(12, axis.name);
    text(this.y(1) - 4, axis.ends[1], "middle");
    text(this.y(0) + 14, axis.ends[0], "middle");
    for (const [kind, share] of axis.ticks.slice(0, 20)) text(this.y(share) + 4, kind, "start", 5);
    axis.brush = this.make("rect", { class: "brush", x: x - 6, width: 12, y: 0, height: 0 });
    const grip = this.make("rect", { class: "grip", x: x - 12, width: 24, y: this.y(1) - 4, height: this.height + 8 });
    this.listen(grip, axis);
  }

  listen(grip, axis) {
    const shareAt = (event) => {
      const y = event.clientY - this.svg.getBoundingClientRect().top;
      return Math.min(1, Math.max(0, 1 - (y - TesraParallel.EDGE.top) / this.height));
    };
    grip.addEventListener("pointerdown", (event) => {
      const from = shareAt(event);
      grip.setPointerCapture(event.pointerId);
      const move = (moved) => {
        const to = shareAt(moved);
        if (Math.abs(to - from) < 0.02) return;
        this.brushes.set(axis.name, [Math.min(from, to), Math.max(from, to)]);
        this.keep();
      };
      grip.addEventListener("pointermove", move);
      grip.addEventListener("pointerup", () => grip.removeEventListener("pointermove", move), { once: true });
    });
    grip.addEventListener("dblclick", () => {
      this.brushes.delete(axis.name);
      this.keep();
    });
  }

  keep() {
    for (const axis of this.axes) {
      const [low, high] = this.brushes.get(axis.name) ?? [0, 0];
      axis.brush.setAttribute("y", this.y(high));
      axis.brush.setAttribute("height", Math.max(0, this.y(low) - this.y(high)));
    }
    const kept = new Set();
    for (const { trial, path } of this.paths) {
      const within = this.axes.every((axis) => {
        const brush = this.brushes.get(axis.name);
        const share = axis.share(trial);
        return !brush || (share >= brush[0] - 1e-9 && share <= brush[1] + 1e-9);
      });
      path.classList.toggle("out", !within);
      if (within) kept.add(trial.number);
    }
    this.onKept(this.brushes.size ? kept : null);
  }
}
