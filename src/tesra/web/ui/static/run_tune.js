// Tuning: sliders and fields send what differs; what was asked for is told by the server.
"use strict";
const TesraTune = (() => {
  const STEPS = 1000;
  let typed = new Map(); // name → what was typed and not sent yet
  let told = "";

  const words = () => document.getElementById("words-run").dataset;
  const fieldsOf = (part) => [...part.querySelectorAll("[data-param]")];

  function make(part, api, again) {
    part.addEventListener("swapped", () => dress(part));
    part.addEventListener("input", (event) => onInput(part, event.target));
    part.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation();
      send(part, event.target, api, again);
    });
    part.addEventListener("click", (event) => onClick(event, api, again));
    dress(part);
  }

  /** Put back what was typed, and set each slider to its field. */
  function dress(part) {
    for (const field of fieldsOf(part)) {
      if (typed.has(field.name)) setField(field, typed.get(field.name));
      const slider = sliderOf(part, field);
      if (slider) slider.value = placeOf(field, Number(field.value));
    }
    mark(part);
  }

  const valueOf = (field) => (field.type === "checkbox" ? String(field.checked) : field.value);
  function setField(field, value) {
    if (field.type === "checkbox") field.checked = value === "true";
    else field.value = value;
  }

  const sliderOf = (part, field) => part.querySelector(`[data-slider="${CSS.escape(field.name)}"]`);
  const boundsOf = (field) => {
    const low = Number(field.dataset.low);
    const high = Number(field.dataset.high);
    return { low, high, log: field.dataset.kind === "float" && low > 0 && high / low >= 100 };
  };

  function placeOf(field, value) {
    const { low, high, log } = boundsOf(field);
    const share = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return Math.round((share || 0) * STEPS);
  }

  function valueAt(field, place) {
    const { low, high, log } = boundsOf(field);
    const share = place / STEPS;
    const value = log ? low * (high / low) ** share : low + (high - low) * share;
    return field.dataset.kind === "int" ? String(Math.round(value)) : String(Number(value.toPrecision(4)));
  }

  function onInput(part, target) {
    const field = target.dataset.slider ? part.querySelector(`[data-param][name="${CSS.escape(target.dataset.slider)}"]`) : target;
    if (!field?.matches("[data-param]")) return;
    if (target.dataset.slider) field.value = valueAt(field, Number(target.value));
    const slider = sliderOf(part, field);
    if (slider && slider !== target) slider.value = placeOf(field, Number(field.value));
    if (valueOf(field) === field.dataset.now) typed.delete(field.name);
    else typed.set(field.name, valueOf(field));
    mark(part);
  }

  function mark(part) {
    for (const field of fieldsOf(part)) field.classList.toggle("changed", valueOf(field) !== field.dataset.now);
    const button = part.querySelector("[data-apply]");
    if (button) button.disabled = !fieldsOf(part).some((field) => valueOf(field) !== field.dataset.now);
  }

  /** As the parameter's kind has it; what is no number is sent as it is, for the server to refuse. */
  function parsed(field) {
    const value = valueOf(field);
    if (field.dataset.kind === "bool") return value === "true";
    if (field.dataset.kind === "str" || value.trim() === "") return value;
    const number = Number(value);
    return Number.isNaN(number) ? value : number;
  }

  async function send(part, form, api, again) {
    if (form.dataset.sending) return;
    const changed = fieldsOf(part).filter((field) => valueOf(field) !== field.dataset.now);
    if (!changed.length) return;
    form.dataset.sending = "yes";
    const values = Object.fromEntries(changed.map((field) => [field.name, parsed(field)]));
    const error = part.querySelector("[data-tune-error]");
    error.hidden = true;
    try {
      await Tesra.callJson(`${api}/tuning`, { method: "POST", json: { values }, headers: { "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` } });
      for (const field of changed) typed.delete(field.name);
      again();
    } catch (problem) {
      error.textContent = [problem.message, problem.wayOut].filter(Boolean).join(" ");
      error.hidden = false;
    } finally {
      delete form.dataset.sending;
    }
  }

  async function onClick(event, api, again) {
    const back = event.target.closest("[data-rollback]");
    const take = event.target.closest("[data-withdraw]");
    if (!back && !take) return;
    try {
      if (back) {
        if (!(await Tesra.ask(back.dataset.question))) return;
        await Tesra.callJson(`${api}/tuning/rollback`, { method: "POST", json: { change: Number(back.dataset.rollback) } });
        Tesra.toast(words().rolledBack);
      } else await Tesra.callJson(`${api}/tuning/${take.dataset.withdraw}`, { method: "DELETE" });
      again();
    } catch (problem) {
      Tesra.toast([problem.message, problem.wayOut].filter(Boolean).join(" "), "danger");
    }
  }

  /** The stream says how it stands: the part is read anew when it is not as it was. */
  function take(part, tuning, again) {
    const now = JSON.stringify(tuning);
    if (told && told !== now) again();
    else if (!told && tuning.changes.length + tuning.parameters.length > 0 && !part.querySelector("[data-param]")) again();
    told = now;
  }

  return { make, take };
})();
