// A folder or a file of the drive is chosen in a dialog: TesraDrive.pick() resolves to its path or null.
"use strict";
const TesraDrive = (() => {
  const $ = (selector, root) => Tesra.$(selector, root);
  let done = () => {};
  let path = "/";

  const dialog = () => $("#drive-picker");

  function button(text, act, className = "picker-entry mono") {
    const made = document.createElement("button");
    made.type = "button";
    made.className = className;
    made.textContent = text;
    made.onclick = act;
    return made;
  }

  function item(content) {
    const made = document.createElement("li");
    made.append(content);
    return made;
  }

  function crumbs() {
    const parts = path.split("/").filter(Boolean);
    const shown = [button(dialog().dataset.root, () => show("/"))];
    parts.forEach((part, at) => {
      shown.push(" / ", button(part, () => show(`/${parts.slice(0, at + 1).join("/")}`)));
    });
    $("[data-crumbs]", dialog()).replaceChildren(...shown);
  }

  async function show(wanted, cursor = "") {
    const list = $("[data-entries]", dialog());
    $("[data-picker-error]", dialog()).textContent = "";
    try {
      const query = new URLSearchParams({ path: wanted, limit: "100", ...(cursor && { cursor }) });
      const found = await Tesra.callJson(`/api/v1/drive/tree?${query}`);
      path = wanted;
      crumbs();
      if (!cursor) list.replaceChildren();
      for (const entry of found.items) {
        const folder = entry.kind === "dir";
        list.append(item(button(folder ? `${entry.name}/` : entry.name, () => (folder ? show(entry.path) : take(entry.path)))));
      }
      if (!list.children.length) list.append(item(dialog().dataset.nothing));
      if (found.next) {
        const more = item(button(dialog().dataset.more, () => { more.remove(); show(wanted, found.next); }, "btn btn-sm"));
        list.append(more);
      }
    } catch (error) {
      $("[data-picker-error]", dialog()).textContent = error.message;
    }
  }

  function take(chosen) {
    const told = done;
    done = () => {};
    dialog().close();
    told(chosen);
  }

  function pick() {
    dialog().showModal();
    $("[data-picker-cancel]", dialog()).onclick = () => dialog().close();
    $("[data-picker-take]", dialog()).onclick = () => take(path);
    dialog().onclose = () => { done(null); done = () => {}; };
    show("/");
    return new Promise((resolve) => { done = resolve; });
  }

  return { pick };
})();
