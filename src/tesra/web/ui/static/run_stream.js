// One stream of events for the whole page. Comes back by itself, behind the last cursor; is closed
// while the page is hidden for long, since a browser keeps six connections to a host.
"use strict";
class TesraStream {
  static HIDDEN_MS = 60000;
  static TAIL = 2000;

  /** `heard`: what to do with each event by name. `told`: how the line is ("live", "again", "ended"). */
  constructor(url, heard, told) {
    this.url = url;
    this.heard = heard;
    this.told = told;
    this.rank = "";
    this.cursor = null;
    this.patience = 1000;
    document.addEventListener("visibilitychange", () => this.visible());
  }

  open() {
    this.close();
    const query = new URLSearchParams(this.cursor === null ? { tail: TesraStream.TAIL } : { after: this.cursor });
    if (this.rank !== "") query.set("rank", this.rank);
    const source = new EventSource(`${this.url}?${query}`);
    this.source = source;
    source.onopen = () => { this.patience = 1000; this.told("live"); };
    source.onerror = () => this.failed(source);
    for (const name of Object.keys(this.heard)) {
      source.addEventListener(name, (event) => this.take(source, name, event));
    }
  }

  /** Another rank: the log from near its end. */
  again(rank) {
    this.rank = rank;
    this.cursor = null;
    this.ended = false;
    this.open();
  }

  take(source, name, event) {
    if (source !== this.source) return;
    const data = JSON.parse(event.data);
    if (name === "log") this.cursor = data.cursor;
    else if (name === "dropped") this.cursor = data.until;
    else if (name === "begin") this.cursor ??= data.after;
    this.heard[name](data);
    if (name === "end") {
      this.ended = true;
      this.close();
      this.told("ended");
    }
  }

  async failed(source) {
    if (source !== this.source) return;
    this.told("again");
    if (source.readyState !== EventSource.CLOSED) return; // the browser comes back by itself
    this.close();
    const wait = this.patience;
    this.patience = Math.min(15000, wait * 1.7);
    const session = await fetch("/session.json").then((answer) => answer.json()).catch(() => null);
    if (session && !session.signed_in) await Tesra.sessionAgain();
    else await new Promise((resolve) => { setTimeout(resolve, wait); });
    if (!this.source && !this.ended && !document.hidden) this.open();
  }

  close() {
    this.source?.close();
    this.source = null;
  }

  visible() {
    clearTimeout(this.hiding);
    if (document.hidden) this.hiding = setTimeout(() => this.close(), TesraStream.HIDDEN_MS);
    else if (!this.source && !this.ended) this.open();
  }
}
