// Recovery codes leave the page as a file or on paper.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const save = document.querySelector("[data-save-codes]");
  save.addEventListener("click", () => {
    const codes = Tesra.all("#recovery-codes li").map((code) => `${code.textContent}\n`).join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([codes], { type: "text/plain" }));
    link.download = save.dataset.saveCodes;
    link.click();
    URL.revokeObjectURL(link.href);
  });
  document.querySelector("[data-print]").addEventListener("click", () => print());
});
