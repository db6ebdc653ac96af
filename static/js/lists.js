/* Lists: people picked on several pages are kept by the server; menus that a scrolling region would cut off are placed in the window; focus returns when the side panel closes. */
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

  // Every change of a box is told to the server at once; requests that swap the list wait for it, so that no page turns
  // before its boxes are known.
  let saving = null;
  let again = false;
  async function save() {
    const form = document.querySelector("form[data-pick]");
    if (!form) return;
    const body = new FormData();
    body.append("csrfmiddlewaretoken", form.querySelector("[name=csrfmiddlewaretoken]").value);
    body.append("shown", form.querySelector("[name=shown]")?.value || "");
    form.querySelectorAll("tbody input[name=accounts]:checked").forEach((box) => body.append("accounts", box.value));
    try {
      const answer = await fetch(form.dataset.pick, { method: "POST", body, headers: { "X-AUM-Pick": "1" }, keepalive: true });
      const dropped = Number(answer.headers.get("X-AUM-Dropped") || 0);
      if (dropped) document.getElementById("announcer").textContent = `${dropped} were not kept: select all that match a filter instead.`;
    } catch { /* the boxes of this page still go with its form */ }
  }
  function keep() {
    if (saving) { again = true; return; }
    saving = save().finally(() => {
      saving = null;
      if (again) { again = false; keep(); }
    });
  }
  const settled = async () => { while (saving) await saving; };
  document.addEventListener("htmx:confirm", (event) => {
    if (!saving || !event.target.closest?.(".explorer")) return;
    event.preventDefault();
    settled().then(() => event.detail.issueRequest(true));
  });

  function countAll(form) {
    const place = form.querySelector("[data-selected]");
    if (!place) return;
    const all = Boolean(form.querySelector("[name=all]")?.checked);
    const note = form.querySelector("[data-elsewhere-note]");
    if (note) note.hidden = all;
    if (all) { place.textContent = place.dataset.all; return; }
    const checked = form.querySelectorAll("tbody input[name=accounts]:checked").length;
    place.textContent = (checked + Number(place.dataset.elsewhere || 0)).toLocaleString("en-GB");
  }
  document.addEventListener("click", (event) => {
    const box = event.target instanceof Element && event.target.closest("form[data-pick] input[type=checkbox]");
    if (!box || box.hasAttribute("form")) return;
    // After the handlers that extend a range or take the whole page.
    queueMicrotask(() => {
      countAll(box.form);
      if (box.name !== "all") keep();
    });
  });
})();
