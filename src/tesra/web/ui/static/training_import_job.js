// An import on the server is looked at until it has another state; then the page is read anew.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const box = Tesra.$("[data-job]");
  if (box.dataset.jobState === "failed") return;

  async function look() {
    try {
      const job = await Tesra.callJson(`/api/v1/imports/${encodeURIComponent(box.dataset.job)}`);
      if (job.state !== box.dataset.jobState) {
        location.reload();
        return;
      }
    } catch { /* the server is away: the next look tells */ }
    setTimeout(look, 1000);
  }
  setTimeout(look, 700);
});
