// What was billed, by month or by day: bars in CNY, a line in T·H, and the same as a table.
"use strict";
(() => {
  const box = document.querySelector("#use-chart");
  if (!box) return;
  const days = JSON.parse(document.querySelector("#use-days").textContent);
  const language = document.documentElement.lang;
  const forms = {
    month: new Intl.DateTimeFormat(language, { year: "numeric", month: "short", timeZone: "UTC" }),
    day: new Intl.DateTimeFormat(language, { month: "short", day: "numeric", timeZone: "UTC" }),
  };
  const money = new Intl.NumberFormat(language, { style: "currency", currency: "CNY", currencyDisplay: "narrowSymbol" });
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 6 });

  /** [start, CNY, T·H, bills] of each month or day, with the empty ones between. */
  function grouped(unit) {
    const groups = new Map();
    for (const [day, amount, th, bills] of days) {
      const key = unit === "month" ? `${day.slice(0, 7)}-01` : day;
      const sum = groups.get(key) ?? [0, 0, 0];
      groups.set(key, [sum[0] + amount / 1e6, sum[1] + th / 1e6, sum[2] + bills]);
    }
    const rows = [];
    const at = new Date(`${[...groups.keys()][0]}T00:00:00Z`);
    const last = new Date();
    while (at <= last) {
      rows.push([at.valueOf() / 1000, ...(groups.get(at.toISOString().slice(0, 10)) ?? [0, 0, 0])]);
      if (unit === "month") at.setUTCMonth(at.getUTCMonth() + 1);
      else at.setUTCDate(at.getUTCDate() + 1);
    }
    return rows.slice(unit === "month" ? -12 : -60);
  }

  let chart = null;

  /** The newest month or day is told while the pointer is elsewhere. */
  function tellLast(plot) {
    const last = plot.data[0].length - 1;
    if (plot.legend.idx === null || plot.legend.idx === undefined) plot.setLegend({ idx: last });
  }

  function draw(unit) {
    const rows = grouped(unit);
    const labels = rows.map(([at]) => forms[unit].format(new Date(at * 1000)));
    const ink = getComputedStyle(document.body).color;
    const axis = { stroke: ink, grid: { stroke: "rgba(128,128,128,.2)" } };
    const places = rows.map((_, place) => place);
    chart?.destroy();
    chart = new uPlot({
      width: box.clientWidth,
      height: 240,
      scales: { x: { time: false, range: [-0.6, rows.length - 0.4] } },
      axes: [
        { ...axis, grid: { show: false }, incrs: [1, 2, 5, 10, 20], space: 64, values: (_, ticks) => ticks.map((tick) => labels[tick] ?? "") },
        { ...axis, scale: "y", size: 70, values: (_, ticks) => ticks.map((tick) => money.format(tick)) },
        { ...axis, scale: "th", side: 1, size: 80, grid: { show: false }, values: (_, ticks) => ticks.map((tick) => number.format(tick)) },
      ],
      series: [
        { label: box.dataset.when, value: (_, __, ___, place) => labels[place] ?? "" },
        { label: box.dataset.cny, scale: "y", value: (_, amount) => money.format(amount ?? 0), fill: "rgba(11,92,173,.6)", stroke: "#0b5cad", paths: uPlot.paths.bars({ size: [0.7, 48] }), points: { show: false } },
        { label: box.dataset.th, scale: "th", value: (_, th) => number.format(th ?? 0), stroke: "#d9730d", width: 2, points: { show: true } },
      ],
      hooks: { ready: [tellLast], setLegend: [tellLast] },
    }, [places, rows.map((row) => row[1]), rows.map((row) => row[2])], box);
    const body = document.querySelector("#use-table tbody");
    body.replaceChildren(...rows.map(([, cny, th, bills], place) => {
      const line = document.createElement("tr");
      [labels[place], number.format(bills), number.format(th), number.format(cny)].forEach((text, column) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (column) cell.className = "text-end";
        line.append(cell);
      });
      return line;
    }));
  }

  document.querySelectorAll("[data-unit]").forEach((button) => button.addEventListener("click", () => {
    document.querySelectorAll("[data-unit]").forEach((other) => {
      other.classList.toggle("active", other === button);
      other.setAttribute("aria-pressed", other === button);
    });
    draw(button.dataset.unit);
  }));
  addEventListener("resize", () => chart?.setSize({ width: box.clientWidth, height: 240 }));
  document.addEventListener("DOMContentLoaded", () => draw("month"));
})();
