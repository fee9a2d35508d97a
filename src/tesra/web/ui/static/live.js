// All that is the reader's, as it changes, and the bell.
//
// A browser keeps six connections to a host, so one tab listens for all: whoever holds the lock has
// the stream and passes on what it hears. Where there are no locks (plain http on another machine),
// a tab listens while it is seen.
"use strict";
Tesra.live = (() => {
  const EVENTS = ["refresh", "runs", "bill", "notice"];
  const listeners = new Map();
  let channel = null;

  function tell(name, data) {
    for (const hear of listeners.get(name) ?? []) hear(data);
  }

  function listen() {
    let patience = 1000;
    let source = null;
    const open = () => {
      source = new EventSource("/api/v1/live");
      source.onopen = () => { patience = 1000; };
      source.onerror = () => {
        if (source.readyState !== EventSource.CLOSED) return;
        setTimeout(open, patience);
        patience = Math.min(patience * 2, 60000);
      };
      for (const name of EVENTS) {
        source.addEventListener(name, (event) => {
          const data = JSON.parse(event.data);
          channel?.postMessage({ name, data });
          tell(name, data);
        });
      }
    };
    open();
    return () => source.close();
  }

  function start() {
    const key = `tesra-live:${document.body.dataset.user}`; // another account hears nothing of this one
    if (navigator.locks && window.BroadcastChannel) {
      channel = new BroadcastChannel(key);
      channel.onmessage = ({ data }) => tell(data.name, data.data);
      navigator.locks.request(key, () => { listen(); return new Promise(() => {}); });
      return;
    }
    let stop = null;
    const look = () => {
      if (document.hidden) { stop?.(); stop = null; } else stop ??= listen();
    };
    document.addEventListener("visibilitychange", look);
    look();
  }

  async function count() {
    const bell = Tesra.$("[data-bell]");
    const answer = await fetch("/api/v1/notices/unread").catch(() => null);
    if (!answer?.ok) return;
    const { unread } = await answer.json();
    const badge = Tesra.$("[data-bell-count]", bell);
    badge.hidden = unread === 0;
    badge.textContent = unread > 99 ? "99+" : String(unread);
    bell.setAttribute("aria-label", unread ? bell.dataset.some.replace("#", badge.textContent) : bell.dataset.none);
  }

  let waiting = 0;

  /** Several notices of one moment are counted once. */
  function countSoon() {
    waiting ||= setTimeout(() => { waiting = 0; count(); }, 300);
  }

  /** ``hear(data)`` is called with each event of this name: docs/spec/live.md. */
  function on(name, hear) {
    listeners.set(name, [...(listeners.get(name) ?? []), hear]);
  }

  /** Notices were read in this tab: the bells of all count again. */
  function read() {
    channel?.postMessage({ name: "read", data: {} });
    count();
  }

  document.addEventListener("DOMContentLoaded", () => {
    on("notice", countSoon);
    on("read", countSoon);
    on("refresh", countSoon);
    count();
    start();
  });
  return { on, read };
})();
