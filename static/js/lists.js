/* The users list: where focus goes when the side panel closes, and no form data kept across a history step. */
"use strict";
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest("[data-return]");
  if (!link) return;
  const back = link.dataset.return;
  document.addEventListener("htmx:afterSettle", () => document.getElementById(back)?.focus(), { once: true });
});
