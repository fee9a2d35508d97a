// The form of a run: rows come and go, the quote follows, what is wrong is told beside its field,
// and what was typed stays whatever the server says.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const { $, all } = Tesra;
  const form = $("#run-form");

  // --- rows --------------------------------------------------------------------------------------
  const GROUPS = ["param", "data", "env", "secret"];
  const rowsOf = (group) => $(`[data-rows="${group}"]`, form);

  function addRow(group, values = {}) {
    const row = $(`#row-${group}`).content.firstElementChild.cloneNode(true);
    for (const [name, value] of Object.entries(values)) {
      const field = $(`[name="${group}_${name}"]`, row);
      if (field) field.value = value;
    }
    rowsOf(group).append(row);
    fitRange(row);
    return row;
  }

  function changed() {
    form.dispatchEvent(new Event("input", { bubbles: true }));
  }

  /** Only numbers have a range. */
  function fitRange(row) {
    const kind = $('[name="param_kind"]', row)?.value;
    if (!kind) return;
    for (const field of all("[data-range]", row)) field.disabled = false;
    row.classList.toggle("no-range", !["int", "float"].includes(kind));
    if (row.classList.contains("no-range")) all("[data-range]", row).forEach((field) => { field.value = ""; });
  }

  form.addEventListener("click", async (event) => {
    const add = event.target.closest("[data-add-row]");
    if (add) $("input", addRow(add.dataset.addRow)).focus();
    const suggested = event.target.closest("[data-suggested]");
    if (suggested) {
      const row = addRow("param", JSON.parse(suggested.dataset.suggested));
      suggested.hidden = true;
      $('[name="param_value"]', row).focus();
      changed();
    }
    const remove = event.target.closest("[data-remove-row]");
    if (remove) {
      const row = remove.closest("[data-row]");
      const group = row.parentElement.dataset.rows;
      const next = row.nextElementSibling ?? row.previousElementSibling;
      row.remove();
      offerSuggestions();
      (next ? $("input", next) : $(`[data-add-row="${group}"]`, form)).focus();
      changed();
    }
    const entry = event.target.closest("[data-entry]");
    if (entry) {
      form.elements.entry.value = entry.dataset.entry;
      changed();
    }
    const choose = event.target.closest("[data-pick-drive]");
    if (choose) {
      const path = await TesraDrive.pick();
      if (path === null) return;
      $('[name="data_path"]', choose.closest("[data-row]")).value = `xingpan:${path}`;
      changed();
    }
  });

  function offerSuggestions() {
    const names = new Set(all('[name="param_name"]', form).map((field) => field.value));
    for (const button of all("[data-suggested]", form)) {
      button.hidden = names.has(JSON.parse(button.dataset.suggested).name);
    }
  }

  // A draft has as many rows as were typed; they are made before their values are put in.
  form.addEventListener("draft", (event) => {
    const first = { param: "param_name", data: "data_path", env: "env_name", secret: "secret_name" };
    for (const group of GROUPS) {
      const wanted = event.detail.filter(([name]) => name === first[group]).length;
      const rows = rowsOf(group);
      while (rows.children.length > wanted) rows.lastElementChild.remove();
      while (rows.children.length < wanted) addRow(group);
    }
  });
  form.addEventListener("drafted", () => fit());

  // --- what depends on what ----------------------------------------------------------------------
  function fitBackend() {
    const backends = form.elements.engine.selectedOptions[0]?.dataset.backends ?? "";
    $("[data-backend-field]", form).hidden = !backends;
    if (!backends) form.elements.backend.value = "";
  }

  function fit() {
    fitBackend();
    all(".param-row", form).forEach(fitRange);
    offerSuggestions();
    quoteSoon();
  }

  form.addEventListener("change", (event) => {
    if (event.target.name === "engine") fitBackend();
    if (event.target.name === "param_kind") fitRange(event.target.closest("[data-row]"));
  });

  // --- the quote ---------------------------------------------------------------------------------
  const QUOTED = ["devices", "device_class", "launch", "proposed_launch", "max_cost_cny", "max_time_h"];
  let timer = 0;
  let asked = 0;
  let quotedFor = "";

  function quoteSoon() {
    clearTimeout(timer);
    timer = setTimeout(quote, 350);
  }

  async function quote() {
    const data = new FormData(form);
    const body = new URLSearchParams(QUOTED.map((name) => [name, data.get(name) ?? ""]));
    const mine = ++asked;
    $("#quote").classList.add("quote-old");
    try {
      const answer = await Tesra.call("/training/new/quote", { method: "POST", body, headers: { Accept: "text/html" } });
      if (mine === asked && answer.ok) {
        $("#quote").innerHTML = await answer.text();
        quotedFor = body.toString();
      }
    } catch { /* the next change asks again */ }
    if (mine === asked) $("#quote").classList.toggle("quote-old", quotedFor !== body.toString());
  }

  form.addEventListener("input", quoteSoon);
  setInterval(() => { if (!document.hidden) quote(); }, 30000); // what is free changes

  // --- start -------------------------------------------------------------------------------------
  const owes = () => $("#unpaid").dataset.unpaid === "yes";
  let sending = false;

  function fitStart() {
    for (const button of all("[data-start]", form)) button.disabled = sending || owes();
    $("[data-why-not]", form).hidden = !owes();
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending || owes()) return;
    const data = new FormData(form, event.submitter);
    if (!data.has("act")) data.set("act", "start");
    data.delete("csrf"); // the header has the newest one, also after another sign-in
    sending = true;
    fitStart();
    try {
      const headers = { Accept: "text/html", "HX-Request": "true" };
      const answer = await Tesra.call("/training/new", { method: "POST", body: new URLSearchParams(data), headers });
      const target = answer.headers.get("HX-Redirect");
      if (target) {
        sessionStorage.removeItem(`tesra-draft:${form.dataset.draft}`);
        location.assign(target);
        return; // still sending: a second press starts nothing
      }
      tell(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      Tesra.toast($("#words-app").dataset.offline, "danger");
    }
    sending = false;
    fitStart();
  });

  /** Takes the errors, and nothing else, over from the page that the server made of what was typed. */
  function tell(page) {
    if (!$("#run-form", page)) {
      const box = $("[role=alert]", page);
      $("#form-problem").replaceChildren(...(box ? [document.importNode(box, true)] : []));
      return;
    }
    $("#form-problem").replaceChildren(...document.importNode($("#form-problem", page), true).childNodes);
    if ($("#unpaid", page).dataset.unpaid === "yes") showUnpaid($("#unpaid", page));
    form.elements.once.value = $('#run-form [name="once"]', page).value;
    const wrong = new Map();
    for (const name of all("#run-form [aria-invalid], #run-form .is-invalid", page).map((field) => field.name)) {
      const said = $(`#h-${name}.invalid-feedback, [data-error="${name}"]`, page);
      if (said) wrong.set(name, said.textContent);
    }
    for (const said of all("#run-form [data-error]:not([hidden])", page)) wrong.set(said.dataset.error, said.textContent);
    for (const place of all("[data-error]", form)) {
      const text = wrong.get(place.dataset.error) ?? "";
      place.textContent = text;
      place.hidden = !text;
      const field = form.elements[place.dataset.error];
      if (!(field instanceof HTMLElement)) continue;
      mark(field, Boolean(text));
      const told = `${document.getElementById(`h-${field.name}`) ? `h-${field.name} ` : ""}${place.id}`;
      if (text) field.setAttribute("aria-describedby", told);
    }
    for (const group of GROUPS) {
      const told = all(`[data-rows="${group}"] [data-row-error]`, page);
      all("[data-row-error]", rowsOf(group)).forEach((place, at) => {
        place.textContent = told[at]?.textContent ?? "";
        place.hidden = !place.textContent;
        for (const field of all("input:not([data-range])", place.parentElement)) mark(field, !place.hidden);
      });
    }
    const first = $('[aria-invalid="true"]', form);
    const folded = first?.closest("details");
    if (folded) folded.open = true;
    (first ?? $("#form-problem")).scrollIntoView({ block: "center" });
    first?.focus({ preventScroll: true });
  }

  function mark(field, wrong) {
    field.classList.toggle("is-invalid", wrong);
    if (wrong) field.setAttribute("aria-invalid", "true"); else field.removeAttribute("aria-invalid");
  }

  // --- the unpaid bill ---------------------------------------------------------------------------
  function showUnpaid(box) {
    const fresh = document.importNode(box, true);
    $("#unpaid").replaceWith(fresh);
    Tesra.tellTimes(fresh);
    fitStart();
    return fresh;
  }

  document.addEventListener("submit", async (event) => {
    const pay = event.target.closest("[data-pay]");
    if (!pay) return;
    event.preventDefault();
    const button = $("button", pay);
    if (button.disabled) return;
    button.disabled = true;
    const data = new FormData(pay);
    data.delete("csrf");
    try {
      const headers = { Accept: "text/html", "X-Part": "unpaid" };
      const answer = await Tesra.call(pay.action, { method: "POST", body: new URLSearchParams(data), headers });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if ($("#unpaid", page)) {
        showUnpaid($("#unpaid", page)).focus();
        quote();
        return;
      }
    } catch { /* told below */ }
    button.disabled = false;
    Tesra.toast($("#words-app").dataset.failed, "danger");
  });

  async function lookUnpaid() {
    const answer = await Tesra.call("/training/new/unpaid", { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (($("#unpaid", page).dataset.unpaid === "yes") !== owes()) showUnpaid($("#unpaid", page));
  }

  let source = null;
  function listen() {
    source = new EventSource("/api/v1/live");
    source.addEventListener("bill", lookUnpaid);
    source.addEventListener("runs", quoteSoon);
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000); };
  }
  listen();
  addEventListener("pagehide", () => source.close());

  // Back from a run that was started: what is started next is another one.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    listen();
    sending = false;
    form.elements.once.value = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    fitStart();
    lookUnpaid();
  });

  fitStart();
  fit();
});
