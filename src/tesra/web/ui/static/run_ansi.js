// What a program prints for a terminal, as text with styles: colours, carriage returns, backspaces.
// Gives plain data: whoever shows it sets textContent, so that nothing of it is ever HTML.
"use strict";
const TesraAnsi = (() => {
  const MOST_CHARS = 4000; // of a line that is shown; the file has all of it
  const SEQUENCE = /\x1b\[([0-9;:<=>?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b[ -/]*[0-~]?|[\r\b]/g;
  const MOVES = /[\r\b]|\x1b\[[0-9;]*[CDGK]/;
  const PLAIN = Object.freeze({});

  /** The style behind a "select graphic rendition"; numbers as terminals read them. */
  function restyled(style, text) {
    const codes = text === "" ? [0] : text.split(/[;:]/).map((code) => Number(code) || 0);
    let next = { ...style };
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) next = {};
      else if (code === 1) next.bold = true;
      else if (code === 2) next.dim = true;
      else if (code === 3) next.italic = true;
      else if (code === 4) next.underline = true;
      else if (code === 7) next.inverse = true;
      else if (code === 9) next.strike = true;
      else if (code === 22) { delete next.bold; delete next.dim; }
      else if (code === 23) delete next.italic;
      else if (code === 24) delete next.underline;
      else if (code === 27) delete next.inverse;
      else if (code === 29) delete next.strike;
      else if (code === 39) delete next.fg;
      else if (code === 49) delete next.bg;
      else if (code >= 30 && code <= 37) next.fg = code - 30;
      else if (code >= 40 && code <= 47) next.bg = code - 40;
      else if (code >= 90 && code <= 97) next.fg = code - 82;
      else if (code >= 100 && code <= 107) next.bg = code - 92;
      else if (code === 38 || code === 48) at = wideColour(next, code === 38 ? "fg" : "bg", codes, at);
    }
    return Object.keys(next).length ? next : PLAIN;
  }

  /** 256 colours and true colour; gives the place of the last number read. */
  function wideColour(style, which, codes, at) {
    if (codes[at + 1] === 5) {
      const code = Math.min(255, codes[at + 2] ?? 0);
      style[which] = code < 16 ? code : cube(code);
      return at + 2;
    }
    if (codes[at + 1] === 2) {
      style[which] = `rgb(${codes.slice(at + 2, at + 5).map((one) => Math.min(255, one)).join(",")})`;
      return at + 4;
    }
    return at;
  }

  function cube(code) {
    if (code >= 232) {
      const grey = 8 + (code - 232) * 10;
      return `rgb(${grey},${grey},${grey})`;
    }
    const level = (one) => (one ? 55 + one * 40 : 0);
    const place = code - 16;
    return `rgb(${level(Math.floor(place / 36))},${level(Math.floor(place / 6) % 6)},${level(place % 6)})`;
  }

  /** A line as [{text, style}], and the style that goes on behind it; `more`: characters left out. */
  function read(line, style = PLAIN) {
    let more = 0;
    if (MOVES.test(line)) line = lastDrawn(line);
    if (line.length > MOST_CHARS * 4) {
      more = line.length - MOST_CHARS;
      line = line.slice(0, MOST_CHARS);
    }
    if (!/[\x1b\r\b]/.test(line)) return { runs: [{ text: line.slice(0, MOST_CHARS), style }], style, more: Math.max(more, line.length - MOST_CHARS) };
    return MOVES.test(line) ? drawn(line, style, more) : written(line, style, more);
  }

  /** Of a line that was drawn over and over, the last two drawings: what is seen in the end. */
  function lastDrawn(line) {
    const parts = line.replace(/\r+$/, "").split("\r");
    return parts.length > 3 ? parts.slice(-3).join("\r") : parts.join("\r");
  }

  function written(line, style, more) {
    const runs = [];
    let at = 0;
    for (const found of line.matchAll(SEQUENCE)) {
      if (found.index > at) runs.push({ text: line.slice(at, found.index), style });
      at = found.index + found[0].length;
      if (found[2] === "m") style = restyled(style, found[1]);
    }
    if (at < line.length) runs.push({ text: line.slice(at), style });
    return { runs, style, more };
  }

  /** With a cursor that moves: what stands there in the end. */
  function drawn(line, style, more) {
    const cells = [];
    let column = 0;
    let at = 0;
    const put = (text) => {
      for (const character of text) {
        if (column < MOST_CHARS) cells[column] = { character, style };
        column += 1;
      }
    };
    for (const found of line.matchAll(SEQUENCE)) {
      put(line.slice(at, found.index));
      at = found.index + found[0].length;
      const count = Math.min(MOST_CHARS, Number(found[1]) || 0);
      if (found[0] === "\r") column = 0;
      else if (found[0] === "\b") column = Math.max(0, column - 1);
      else if (found[2] === "m") style = restyled(style, found[1]);
      else if (found[2] === "K") erase(cells, column, count);
      else if (found[2] === "C") column += count || 1;
      else if (found[2] === "D") column = Math.max(0, column - (count || 1));
      else if (found[2] === "G") column = Math.max(0, count - 1);
    }
    put(line.slice(at));
    return { runs: joined(cells), style, more };
  }

  function erase(cells, column, how) {
    if (how === 2) cells.length = 0;
    else if (how === 1) cells.fill({ character: " ", style: PLAIN }, 0, column);
    else cells.length = Math.min(cells.length, column);
  }

  function joined(cells) {
    const runs = [];
    for (let at = 0; at < cells.length; at += 1) {
      const { character, style } = cells[at] ?? { character: " ", style: PLAIN };
      const last = runs.at(-1);
      if (last && last.style === style) last.text += character;
      else runs.push({ text: character, style });
    }
    return runs;
  }

  /** Put a line into an element, as text. */
  function show(element, { runs, more }, moreWords) {
    if (runs.length === 1 && runs[0].style === PLAIN) element.textContent = runs[0].text;
    else element.replaceChildren(...runs.map(spanOf));
    if (more > 0) {
      const note = document.createElement("span");
      note.className = "log-more";
      note.textContent = moreWords.replace("{n}", more.toLocaleString());
      element.append(" ", note);
    }
  }

  function spanOf({ text, style }) {
    if (style === PLAIN) return document.createTextNode(text);
    const span = document.createElement("span");
    span.textContent = text;
    const { fg, bg } = style.inverse ? { fg: style.bg ?? "back", bg: style.fg ?? "front" } : style;
    const names = ["bold", "dim", "italic", "underline", "strike"].filter((name) => style[name]).map((name) => `a-${name}`);
    if (fg !== undefined) typeof fg === "string" && fg.startsWith("rgb") ? (span.style.color = fg) : names.push(`a-f${fg}`);
    if (bg !== undefined) typeof bg === "string" && bg.startsWith("rgb") ? (span.style.backgroundColor = bg) : names.push(`a-b${bg}`);
    span.className = names.join(" ");
    return span;
  }

  return { read, show, PLAIN };
})();
