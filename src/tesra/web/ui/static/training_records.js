// The list of runs as it changes: rows are read anew as the stream names them; tags and notes.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const { $, all } = Tesra;
  const list = $("#records");
  const rowOf = (id) => all("tr[data-run]", list).find((row) => row.dataset.run === id);
  const withPart = (url) => { url.searchParams.set("part", "list"); return url; };

  async function pageOf(url) {
    const answer = await Tesra.call(url, { headers: { Accept: "text/html" } });
    return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
  }

  async function readList() {
    const found = await pageOf(withPart(new URL(location.href)));
    if (!found) return;
    const focused = document.activeElement?.closest?.("#records tr[data-run]")?.dataset.run;
    list.replaceChildren(...found.body.childNodes);
    Tesra.tellTimes(list);
    if (focused) $("a", rowOf(focused) ?? document.createElement("tr"))?.focus();
  }

  async function readRow(id) {
    const row = rowOf(id);
    if (!row) return;
    const answer = await Tesra.call(`/training/rows/${encodeURIComponent(id)}`, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text();
    const fresh = $("tr", holder.content);
    const place = [...row.querySelectorAll("a, button")].indexOf(document.activeElement);
    row.replaceWith(fresh);
    Tesra.tellTimes(fresh);
    if (place >= 0) [...fresh.querySelectorAll("a, button")][place]?.focus();
  }

  // --- what happens elsewhere -----------------------------------------------------------------
  const waiting = new Set();
  let timer = 0;

  function later(id) {
    waiting.add(id);
    timer ||= setTimeout(() => {
      timer = 0;
      const ids = [...waiting];
      waiting.clear();
      const unknown = ids.includes("") || (list.dataset.first === "yes" && ids.some((one) => !rowOf(one)));
      if (unknown) readList(); else ids.forEach(readRow);
    }, 200);
  }

  let source = null;
  let heard = false;

  function listen() {
    source = new EventSource("/api/v1/live");
    source.addEventListener("refresh", () => { if (heard) later(""); heard = true; });
    source.addEventListener("runs", (event) => {
      const run = JSON.parse(event.data);
      if (!run.sweep) later(run.id);
    });
    source.addEventListener("bill", (event) => {
      const { run } = JSON.parse(event.data);
      if (rowOf(run)) later(run);
    });
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
    };
  }
  listen();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) listen(); });

  // --- filters ---------------------------------------------------------------------------------
  $("form[data-filter]")?.addEventListener("change", (event) => {
    if (event.target instanceof HTMLSelectElement) event.currentTarget.requestSubmit();
  });

  // --- tags and notes --------------------------------------------------------------------------
  const dialog = $("#labels");
  const form = $("form", dialog);

  list.addEventListener("click", (event) => {
    const button = event.target.closest("[data-label-run]");
    if (!button) return;
    const row = button.closest("tr");
    dialog.dataset.run = row.dataset.run;
    $("[data-labels-run]", dialog).textContent = row.dataset.run;
    $("[data-labels-error]", dialog).textContent = "";
    form.elements.tags.value = row.dataset.tags;
    form.elements.note.value = row.dataset.note;
    dialog.showModal();
    form.elements.tags.focus();
  });
  $("[data-labels-cancel]", dialog).addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { run } = dialog.dataset;
    const tags = form.elements.tags.value.split(/[,，]/).map((tag) => tag.trim()).filter(Boolean);
    try {
      await Tesra.callJson(`/api/v1/runs/${encodeURIComponent(run)}`, {
        method: "PATCH", json: { tags, note: form.elements.note.value },
      });
      dialog.close();
      await readRow(run);
      $("[data-label-run]", rowOf(run))?.focus();
    } catch (error) {
      $("[data-labels-error]", dialog).textContent = error.message;
    }
  });
});
