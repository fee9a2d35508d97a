// Notices are read once they were seen; new ones appear by themselves.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const list = Tesra.$("#notice-list");

  async function seen() {
    const newest = Tesra.$("[data-notice]", list)?.dataset.notice;
    if (!newest || document.hidden || !Tesra.$("[data-unread]", list)) return;
    await Tesra.callJson("/api/v1/notices/read", { method: "POST", json: { until: newest } });
    Tesra.live.read();
  }

  async function readAgain() {
    const answer = await Tesra.call("/notices", { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    list.replaceChildren(...page.querySelector("#notice-list").childNodes);
    Tesra.tellTimes(list);
    seen();
  }

  if (list.dataset.first === "yes") Tesra.live.on("notice", readAgain);
  document.addEventListener("visibilitychange", seen);
  seen();
});
