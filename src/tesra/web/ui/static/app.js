// What every page does: asks before what can't be undone, sends a form once, keeps what was typed,
// tells times as the reader's clock has them, and notices when a session has ended.
"use strict";
const Tesra = (() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const words = () => $("#words-app").dataset;

  // --- calls -------------------------------------------------------------------------------
  const csrf = () => $('meta[name="csrf"]').content;

  /** fetch() to this site's API with the session's proof; waits for a new sign-in after a 401. */
  async function call(url, { method = "GET", json, headers = {}, ...more } = {}) {
    for (;;) {
      const sent = { Accept: "application/json", "X-CSRF-Token": csrf(), ...headers };
      if (json !== undefined) sent["Content-Type"] = "application/json";
      const body = json === undefined ? more.body : JSON.stringify(json);
      const answer = await fetch(url, { ...more, method, headers: sent, body });
      if (answer.status !== 401) return answer;
      await sessionAgain();
    }
  }

  /** The JSON of a call; throws an Error with the server's own words. */
  async function callJson(url, options) {
    const answer = await call(url, options);
    const told = answer.status === 204 ? null : await answer.json().catch(() => null);
    if (!answer.ok) {
      const error = new Error(told?.detail ?? words().failed);
      error.wayOut = told?.way_out ?? "";
      error.status = answer.status;
      throw error;
    }
    return told;
  }

  let waitingForSession = null;

  /** Resolves when the reader has signed in again; nothing on the page is lost meanwhile. */
  function sessionAgain() {
    waitingForSession ??= new Promise((resolve) => {
      const dialog = $("#session-ended");
      const look = async () => {
        const told = await fetch("/session.json").then((answer) => answer.json()).catch(() => null);
        if (!told?.signed_in) return;
        renewProof(told.csrf);
        dialog.close();
        removeEventListener("focus", look);
        waitingForSession = null;
        resolve();
      };
      $("[data-session-again]", dialog).onclick = look;
      addEventListener("focus", look);
      if (!dialog.open) dialog.showModal();
    });
    return waitingForSession;
  }

  function renewProof(proof) {
    $('meta[name="csrf"]').content = proof;
    all('input[name="csrf"]').forEach((field) => { field.value = proof; });
    document.body.setAttribute("hx-headers:inherited", JSON.stringify({ "X-CSRF-Token": proof }));
  }

  // --- telling -----------------------------------------------------------------------------
  function toast(text, kind = "success") {
    const box = document.createElement("div");
    box.className = `alert alert-${kind} alert-dismissible`;
    const said = document.createElement("div");
    said.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn-close";
    close.setAttribute("aria-label", words().close);
    close.onclick = () => box.remove();
    box.append(said, close);
    $("#toasts").append(box);
    if (kind === "success") setTimeout(() => box.remove(), 6000);
    return box;
  }

  /** Asks; resolves to whether the answer was yes. */
  function ask(text) {
    const dialog = $("#ask");
    $("#ask-text").textContent = text;
    dialog.returnValue = "no";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  // --- times -------------------------------------------------------------------------------
  const STEPS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 30], ["month", 12], ["year", Infinity]];

  function ago(at, language) {
    let value = (at - Date.now()) / 1000;
    for (const [unit, size] of STEPS) {
      if (Math.abs(value) < size) {
        return new Intl.RelativeTimeFormat(language, { numeric: "auto" }).format(Math.round(value), unit);
      }
      value /= size;
    }
    return "";
  }

  function tellTimes(root = document) {
    const language = document.documentElement.lang;
    const exact = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "long" });
    for (const element of all("time[datetime]", root)) {
      const at = new Date(element.dateTime);
      if (Number.isNaN(at.valueOf())) continue;
      element.title = exact.format(at);
      if (!element.hasAttribute("data-exact")) element.textContent = ago(at, language);
    }
  }

  // --- forms: asked, sent once, kept ----------------------------------------------------------
  const DRAFT = "tesra-draft:";
  const SENT = "tesra-sent:";
  const keyOf = (form) => DRAFT + form.dataset.draft;
  const kept = (field) => field.name && field.name !== "csrf" && !["password", "file", "hidden"].includes(field.type);

  function saveDraft(form) {
    const values = [...form.elements].filter(kept).map((field) =>
      [field.name, field.type === "checkbox" || field.type === "radio" ? [field.value, field.checked] : field.value]);
    sessionStorage.setItem(keyOf(form), JSON.stringify(values));
  }

  /** Fills a form with what was typed before; its own rows may have to be made first ("draft"). */
  function restoreDraft(form) {
    const text = sessionStorage.getItem(keyOf(form));
    if (!text) return;
    const values = JSON.parse(text);
    form.dispatchEvent(new CustomEvent("draft", { detail: values }));
    const seen = new Map();
    for (const [name, value] of values) {
      const place = seen.get(name) ?? 0;
      const fields = [...form.elements].filter((field) => field.name === name && kept(field));
      const field = fields[place];
      seen.set(name, place + 1);
      if (!field) continue;
      if (Array.isArray(value)) field.checked = value[1];
      else field.value = value;
    }
    form.dispatchEvent(new CustomEvent("drafted", { bubbles: true }));
  }

  /** A form that was sent and is not here any more has arrived: its draft has done its work. */
  function forgetSent() {
    if ($("[data-on-its-way]")) return; // how it ends is not known yet, or it ended badly
    for (const key of Object.keys(sessionStorage).filter((name) => name.startsWith(SENT))) {
      const draft = key.slice(SENT.length);
      const stillHere = all("form[data-draft]").some((form) => keyOf(form) === draft);
      const signingIn = $('form[action="/sign-in"]') || document.body.dataset.signedIn === "no";
      if (!stillHere && !signingIn && !$("[data-problem]")) sessionStorage.removeItem(draft);
      if (!signingIn) sessionStorage.removeItem(key);
    }
  }

  async function onSubmit(event) {
    const form = event.target;
    if (!(form instanceof HTMLFormElement) || form.method === "dialog") return;
    if (form.dataset.sending) {
      event.preventDefault();
      return;
    }
    if (form.dataset.ask && !form.dataset.asked) {
      event.preventDefault();
      event.stopImmediatePropagation();
      const { submitter } = event;
      if (await ask(form.dataset.ask)) {
        form.dataset.asked = "yes";
        form.requestSubmit(submitter);
        delete form.dataset.asked;
      }
      return;
    }
    if (form.dataset.draft) {
      saveDraft(form);
      sessionStorage.setItem(SENT + keyOf(form), "1");
    }
    if (event.defaultPrevented || form.hasAttribute("hx-post") || form.hasAttribute("data-own-submit")) return;
    form.dataset.sending = "yes"; // a second click sends nothing
    form.setAttribute("data-busy", "");
    setTimeout(() => { delete form.dataset.sending; form.removeAttribute("data-busy"); }, 15000);
  }

  // --- menus and small things -----------------------------------------------------------------
  function onClick(event) {
    const dismiss = event.target.closest("[data-dismiss]");
    if (dismiss) dismiss.closest("[data-toast], .alert")?.remove();
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      navigator.clipboard?.writeText(copy.dataset.copy).then(() => toast(words().copied));
    }
    for (const menu of all("details[data-menu][open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  }

  function onKey(event) {
    if (event.key !== "Escape") return;
    for (const menu of all("details[data-menu][open]")) {
      menu.open = false;
      $("summary", menu)?.focus();
    }
  }

  function start() {
    forgetSent();
    for (const form of all("form[data-draft]")) {
      if (!form.hasAttribute("data-kept")) restoreDraft(form);
      form.addEventListener("input", () => saveDraft(form));
    }
    document.addEventListener("submit", onSubmit, true);
    document.addEventListener("click", onClick);
    document.addEventListener("keydown", onKey);
    addEventListener("pageshow", () => {
      for (const form of all("form[data-busy]")) {
        form.removeAttribute("data-busy");
        delete form.dataset.sending;
      }
    });
    for (const here of all('main nav a[aria-current="page"]')) {
      const { parentElement: nav } = here; // on a phone not all of a row of tabs has room
      if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = here.offsetLeft - nav.offsetLeft - 40;
    }
    tellTimes();
    setInterval(tellTimes, 30000);
    document.addEventListener("htmx:after:swap", () => tellTimes());
    document.addEventListener("htmx:error", () => toast(words().failed, "danger"));
  }

  document.addEventListener("DOMContentLoaded", start);
  return { $, all, call, callJson, toast, ask, ago, tellTimes, sessionAgain, csrf };
})();
