// The runs of the home page, as they change.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const list = Tesra.$("#home-runs");
  let waiting = 0;

  async function readAgain() {
    waiting = 0;
    const answer = await Tesra.call("/?part=runs", { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const part = new DOMParser().parseFromString(await answer.text(), "text/html");
    list.replaceChildren(...part.body.childNodes);
    Tesra.tellTimes(list);
  }

  const soon = () => { waiting ||= setTimeout(readAgain, 250); };
  Tesra.live.on("runs", soon);
  Tesra.live.on("refresh", soon);
});
