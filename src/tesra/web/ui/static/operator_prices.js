// The date field is in the reader's time: the server is told how many minutes that is behind UTC.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const field = document.querySelector("#f-from");
  const zone = document.querySelector('input[name="zone_minutes"]');
  const tell = () => {
    const at = new Date(field.value);
    zone.value = Number.isNaN(at.valueOf()) ? "" : String(at.getTimezoneOffset());
  };
  field.addEventListener("input", tell);
  tell();
});
