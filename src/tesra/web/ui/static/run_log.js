// The log of a run: follows at thousands of lines a second with a bounded number of lines on the page.
//
// What is on the page is a window of the log, in batches that know their cursors. While it follows,
// its end is the newest line and its beginning is trimmed; a paused window stays as it is and what
// comes waits (bounded: the server has everything). Earlier and later lines are read from logs/part.
"use strict";
class TesraLog {
  static MOST_LINES = 3000; // on the page while it follows
  static MOST_LOADED = 9000; // on the page while one reads
  static MOST_WAITING = 6000; // heard while paused
  static FRAME_MS = 10; // of each frame may go into new lines
  static LINE_PX = 18; // as the style sheet has it
  static CHUNK = 25; // lines that the browser lays out together; those out of sight cost nothing
  static EACH_MS = 80; // between two drawings: nobody reads faster

  constructor(root) {
    this.box = root.querySelector("[data-log]");
    this.words = document.getElementById("words-run").dataset;
    this.api = root.dataset.api;
    this.ranks = Number(root.dataset.ranks);
    this.rank = "";
    this.onState = () => {};
    this.following = true;
    this.held = false; // paused by the button, not by scrolling
    this.touchedAt = -Infinity;
    this.reading = 0; // requests on their way
    this.reset(0);
    this.listen();
  }

  // --- what the stream says ------------------------------------------------------------------

  /** The stream begins behind a cursor: the window goes on there, or begins anew. */
  begin(after) {
    if (this.heard === after && this.begun) return;
    this.begun = true;
    this.reset(after);
    this.onState();
  }

  /** Parts of the log, up to a cursor. */
  take({ cursor, parts }) {
    const batch = { first: this.heard + 1, until: cursor, parts: parts.map(TesraLog.split) };
    batch.lines = batch.parts.reduce((sum, part) => sum + part.lines.length, 0);
    this.heard = cursor;
    this.hear(batch);
  }

  /** Lines that this page was too slow for: they can still be read. */
  dropped({ lines, after, until }) {
    this.heard = until;
    this.hear({ first: after + 1, until, parts: [], lines: 1, left: lines });
  }

  hear(batch) {
    this.waiting.push(batch);
    this.waitingLines += batch.lines;
    const most = this.following ? TesraLog.MOST_LINES : TesraLog.MOST_WAITING;
    while (this.waiting.length > 1 && this.waitingLines - this.waiting[0].lines >= most) {
      this.waitingLines -= this.waiting.shift().lines;
      this.attached = false; // the window can't go on from here: it begins anew with what waits
    }
    if (this.following) this.draw();
    else this.onState();
  }

  static split({ rank, attempt, text }) {
    const open = !text.endsWith("\n");
    const lines = text.split("\n");
    if (!open) lines.pop();
    return { rank, attempt, lines, open };
  }

  // --- what stands on the page ---------------------------------------------------------------

  reset(after) {
    this.heard = after;
    this.waiting = [];
    this.waitingLines = 0;
    this.clear();
    this.atStart = after <= 0;
    this.first = after + 1;
    this.last = after;
    this.attached = true;
  }

  clear() {
    this.box.replaceChildren();
    this.batches = [];
    this.count = 0;
    this.open = new Map(); // rank → its line that has no end yet
    this.styles = new Map();
    this.current = null;
  }

  draw() {
    if (this.frame) return;
    this.frame = true;
    const rest = TesraLog.EACH_MS - (performance.now() - (this.drawnAt ?? -Infinity));
    const next = () => requestAnimationFrame(() => {
      this.frame = false;
      this.drawnAt = performance.now();
      this.drawSome();
      if (this.following && (this.waiting.length || this.current)) this.draw();
      else requestAnimationFrame(() => { if (this.following) this.box.scrollTop = this.box.scrollHeight; });
    });
    if (rest > 0) setTimeout(next, rest);
    else next();
  }

  drawSome() {
    if (!this.following) return;
    if (!this.attached) {
      if (!this.waiting.length) return;
      this.clear();
      this.atStart = false;
      this.first = this.waiting[0].first;
      this.attached = true;
    }
    const until = performance.now() + TesraLog.FRAME_MS;
    while (performance.now() < until && this.drawStep());
    this.trimStart(TesraLog.MOST_LINES);
    this.box.scrollTop = this.box.scrollHeight;
    this.onState();
  }

  /** A few lines more; whether there is something left. */
  drawStep() {
    if (!this.current) {
      const batch = this.waiting.shift();
      if (!batch) return false;
      this.waitingLines -= batch.lines;
      this.current = this.place(batch, null);
      this.last = batch.until;
    }
    if (!this.write(this.current, TesraLog.CHUNK)) this.current = null;
    return true;
  }

  /** An element for a batch, at the end or before another one; its lines come with `write`. */
  place(batch, before) {
    const element = document.createElement("div");
    this.box.insertBefore(element, before);
    const placed = { ...batch, element, part: 0, line: 0, nodes: [], chunk: null };
    if (before) this.batches.unshift(placed);
    else this.batches.push(placed);
    this.count += batch.lines;
    if (batch.left) element.append(this.gap(batch));
    return placed;
  }

  /** The next lines of a batch; whether it has more. */
  write(batch, most) {
    const more = this.writeSome(batch, most);
    TesraLog.measure(batch.chunk);
    return more;
  }

  /** How tall lines out of sight are, so that nothing moves when they come into sight. */
  static measure(chunk) {
    if (chunk) chunk.style.containIntrinsicSize = `auto ${chunk.childElementCount * TesraLog.LINE_PX}px`;
  }

  writeSome(batch, most) {
    for (let done = 0; done < most; done += 1) {
      const part = batch.parts[batch.part];
      if (!part) return false;
      if (batch.line >= part.lines.length) {
        batch.part += 1;
        batch.line = 0;
        continue;
      }
      const text = part.lines[batch.line];
      const isLast = batch.line === part.lines.length - 1;
      const open = batch.line === 0 ? this.open.get(part.rank) : undefined;
      let node = open?.node;
      let raw = text;
      if (open) raw = (open.raw.length > 20000 ? open.raw.slice(-20000) : open.raw) + text;
      if (!node?.isConnected) node = this.line(batch, part);
      const style = open?.style ?? this.styles.get(part.rank);
      const shown = TesraAnsi.read(raw, style);
      TesraAnsi.show(node, shown, this.words.longLine);
      batch.nodes.push(node);
      if (isLast && part.open) this.open.set(part.rank, { node, raw, style });
      else {
        this.open.delete(part.rank);
        this.styles.set(part.rank, shown.style);
      }
      batch.line += 1;
    }
    return true;
  }

  line(batch, part) {
    if (!batch.chunk || batch.chunk.childElementCount >= TesraLog.CHUNK) {
      TesraLog.measure(batch.chunk);
      batch.chunk = document.createElement("div");
      batch.chunk.className = "log-chunk";
      batch.element.append(batch.chunk);
    }
    const node = document.createElement("div");
    node.className = part.rank < 0 ? "ln ln-own" : "ln";
    if (part.rank < 0) node.dataset.rank = "tesra";
    else if (this.ranks > 1) node.dataset.rank = String(part.rank);
    batch.chunk.append(node);
    return node;
  }

  gap({ left, first }) {
    const note = document.createElement("div");
    note.className = "log-gap";
    const said = document.createElement("span");
    said.textContent = this.words.dropped.replace("{n}", left.toLocaleString());
    const see = document.createElement("button");
    see.type = "button";
    see.className = "btn btn-sm";
    see.textContent = this.words.showDropped;
    see.onclick = () => this.jump(first, 0);
    note.append(said, " ", see);
    return note;
  }

  trimStart(most) {
    while (this.batches.length > 1 && this.count - this.batches[0].lines >= most) {
      const gone = this.batches.shift();
      gone.element.remove();
      this.count -= gone.lines;
      this.first = this.batches[0].first;
      this.atStart = false;
    }
  }

  trimEnd(most) {
    while (this.batches.length > 1 && this.count - this.batches.at(-1).lines >= most) {
      const gone = this.batches.pop();
      gone.element.remove();
      this.count -= gone.lines;
      this.last = this.batches.at(-1).until;
      this.attached = false;
      this.open.clear();
    }
  }

  // --- following and reading -----------------------------------------------------------------

  follow(on, { held = !on } = {}) {
    this.held = held;
    if (on === this.following) return this.onState();
    this.following = on;
    if (on && !this.attached && !this.waiting.length) this.toEnd();
    else if (on) {
      this.box.scrollTop = this.box.scrollHeight;
      this.draw();
    } else if (this.current) {
      while (this.write(this.current, TesraLog.CHUNK));
      this.current = null;
    }
    return this.onState();
  }

  /** The newest lines again, when nothing new has come since the window was moved away. */
  async toEnd() {
    const heard = this.heard;
    const told = await this.read({ before: heard + 1, lines: 500 });
    if (!told || this.attached || heard !== this.heard) return; // new lines came: they are drawn
    this.clear();
    this.put(told);
    this.first = told.first;
    this.last = this.heard;
    this.atStart = !told.more;
    this.attached = true;
    this.box.scrollTop = this.box.scrollHeight;
    this.onState();
  }

  async read(query) {
    this.reading += 1;
    this.onState();
    const asked = new URLSearchParams(query);
    if (this.rank !== "") asked.set("rank", this.rank);
    const rank = this.rank;
    try {
      const told = await Tesra.callJson(`${this.api}/logs/part?${asked}`);
      return rank === this.rank ? told : null;
    } catch (error) {
      this.trouble = error.message;
      return null;
    } finally {
      this.reading -= 1;
      this.onState();
    }
  }

  /** Segments that were read, whole, at the end or in front. */
  put(told, { atFront = false } = {}) {
    const made = [];
    for (const part of told.parts) {
      const split = TesraLog.split(part);
      made.push({ first: part.cursor, until: part.cursor, parts: [split], lines: split.lines.length });
    }
    if (atFront) {
      const kept = [this.open, this.styles];
      this.styles = new Map();
      for (const batch of made.reverse()) {
        this.open = new Map();
        const placed = this.place(batch, this.box.firstElementChild);
        while (this.write(placed, TesraLog.CHUNK));
      }
      [this.open, this.styles] = kept;
      return;
    }
    for (const batch of made) {
      const placed = this.place(batch, null);
      while (this.write(placed, TesraLog.CHUNK));
    }
  }

  async earlier() {
    if (this.atStart || this.following || this.reading) return;
    const first = this.first;
    const told = await this.read({ before: this.first, lines: 500 });
    if (!told || this.following || first !== this.first) return;
    const height = this.box.scrollHeight;
    if (told.parts.length) {
      this.put(told, { atFront: true });
      this.first = told.first;
    }
    this.atStart = !told.more;
    this.box.scrollTop += this.box.scrollHeight - height;
    this.trimEnd(TesraLog.MOST_LOADED);
    this.onState();
  }

  async later() {
    if (this.attached || this.following || this.reading) return;
    const last = this.last;
    const told = await this.read({ after: last, lines: 500 });
    if (!told || this.following || last !== this.last) return;
    const all = told.parts.length;
    told.parts = told.parts.filter((part) => part.cursor <= this.heard);
    const top = this.box.scrollTop;
    this.put(told);
    if (told.parts.length) this.last = told.parts.at(-1).cursor;
    this.box.scrollTop = top;
    if (this.last >= this.heard || (!told.more && told.parts.length === all)) {
      this.attached = true; // what waits is on the page by now
      this.waiting = [];
      this.waitingLines = 0;
    }
    const height = this.box.scrollHeight;
    this.trimStart(TesraLog.MOST_LOADED);
    this.box.scrollTop -= height - this.box.scrollHeight;
    this.onState();
  }

  /** The window around a line: `line` of segment `cursor`. */
  async jump(cursor, line) {
    this.follow(false);
    const [behind, before] = await Promise.all([
      this.read({ after: cursor - 1, lines: 400 }), this.read({ before: cursor, lines: 100 }),
    ]);
    if (!behind || !before) return false;
    this.clear();
    this.put(before);
    const seen = this.batches.length;
    this.put(behind);
    this.first = before.parts.length ? before.first : cursor;
    this.atStart = !before.more;
    this.last = behind.last;
    this.attached = false;
    const node = this.batches[seen]?.nodes[line] ?? this.batches[seen]?.element;
    node?.classList.add("ln-hit");
    node?.scrollIntoView({ block: "center" });
    this.onState();
    return true;
  }

  listen() {
    const touched = () => { this.touchedAt = performance.now(); };
    const up = () => { if (this.following) this.follow(false, { held: false }); };
    for (const name of ["wheel", "touchmove", "pointerdown", "keydown"]) {
      this.box.addEventListener(name, touched, { passive: true });
    }
    this.box.addEventListener("wheel", ({ deltaY }) => { if (deltaY < 0) up(); }, { passive: true });
    this.box.addEventListener("keydown", ({ key }) => { if (["ArrowUp", "PageUp", "Home"].includes(key)) up(); });
    this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
  }

  /** By a person, not by new lines: away from the end it pauses, down to the end it follows again. */
  scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    const atEnd = scrollHeight - scrollTop - clientHeight < 30;
    const touched = performance.now() - this.touchedAt < 1500;
    const down = scrollTop > (this.top ?? 0);
    this.top = scrollTop;
    if (this.following && touched && !atEnd && !down) this.follow(false, { held: false });
    else if (!this.following && touched && down && atEnd && this.attached && !this.held) this.follow(true);
    if (this.following) return;
    if (scrollTop < 200) this.earlier();
    else if (atEnd) this.later();
  }
}
