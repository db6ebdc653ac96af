/* Lists: menus that a scrolling region would cut off are placed in the window; focus returns when the side panel closes. */
"use strict";
(() => {
  const GAP = 8;
  const isCut = (menu) => menu.matches?.("details.menu") && menu.closest(".table-wrap, .filters");

  function place(menu) {
    const button = menu.querySelector("summary").getBoundingClientRect();
    const box = menu.querySelector(":scope > div");
    Object.assign(box.style, { position: "fixed", inset: "auto", maxBlockSize: `${innerHeight - 2 * GAP}px`, overflowY: "auto" });
    const left = Math.min(Math.max(button.right - box.offsetWidth, GAP), innerWidth - box.offsetWidth - GAP);
    const below = button.bottom + 4;
    const fits = below + box.offsetHeight <= innerHeight - GAP;
    const top = fits ? below : Math.max(button.top - box.offsetHeight - 4, GAP);
    Object.assign(box.style, { left: `${Math.max(left, GAP)}px`, top: `${top}px` });
  }
  document.addEventListener("toggle", (event) => { if (event.target.open && isCut(event.target)) place(event.target); }, true);
  // Such a menu follows its button when something around it scrolls.
  const follow = (event) => {
    document.querySelectorAll("details.menu[open]").forEach((menu) => { if (isCut(menu) && !menu.contains(event.target)) place(menu); });
  };
  document.addEventListener("scroll", follow, true);
  addEventListener("resize", follow);

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("[data-return]");
    if (!link) return;
    const back = link.dataset.return;
    document.addEventListener("htmx:afterSettle", () => document.getElementById(back)?.focus(), { once: true });
  });
})();
