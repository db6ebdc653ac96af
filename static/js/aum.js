/* What the pages need beyond htmx: dialogs, toasts, copying, shortcuts, ranges, focus, quiet polling. No eval, no inline code. */
"use strict";
(() => {
  const root = document.documentElement;
  const find = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  root.classList.add("js");

  // Toasts: 6 s, kept while hovered or focused; errors stay until closed.
  function startToast(toast) {
    if (toast.dataset.timed) return;
    toast.dataset.timed = "1";
    if (toast.classList.contains("bad")) return;
    let timer;
    const arm = () => { timer = setTimeout(() => toast.remove(), 6000); };
    const hold = () => clearTimeout(timer);
    toast.addEventListener("mouseenter", hold);
    toast.addEventListener("focusin", hold);
    toast.addEventListener("mouseleave", arm);
    toast.addEventListener("focusout", arm);
    arm();
  }
  function say(text, isError) {
    const toast = document.createElement("div");
    toast.className = isError ? "toast bad" : "toast";
    toast.setAttribute("role", isError ? "alert" : "status");
    const words = document.createElement("span");
    words.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "btn ghost push";
    close.dataset.close = "";
    close.textContent = "Close";
    toast.append(words, close);
    find("#toasts").append(toast);
    startToast(toast);
  }
  const announce = (text) => { find("#announcer").textContent = text; };

  // A region that came with the page or by a swap: open its dialog, move focus, announce its result, arm its toasts.
  function settle(region) {
    all(".toast").forEach(startToast);
    const dialog = region.matches?.("dialog[data-open]") ? region : find("dialog[data-open]", region);
    if (dialog && !dialog.dataset.shown) {
      dialog.dataset.shown = "1";
      dialog.open = false; // without script it stands open in the page; with script it becomes modal
      dialog.showModal();
      dialog.addEventListener("close", () => { if (dialog.dataset.back) location.assign(dialog.dataset.back); }, { once: true });
    }
    find("[data-focus]", region)?.focus();
    const result = region.matches?.("[data-announce]") ? region : find("[data-announce]", region);
    if (result) announce(result.dataset.announce || result.textContent.trim());
  }

  // Selecting: Shift extends from the last box; the header box takes the page; [data-selected] counts.
  let lastBox = null;
  const rowBoxes = (table) => all("tbody input[type=checkbox]:not(.switch):not(:disabled)", table);
  function countSelected(table) {
    const scope = table.closest("form, .card, main") || document;
    const checked = rowBoxes(table).filter((box) => box.checked).length;
    all("[data-selected]", scope).forEach((place) => {
      const others = Number(place.dataset.elsewhere || 0); // picked on other pages of the list
      place.textContent = (checked + others).toLocaleString("en-GB");
    });
    const head = find("thead input[type=checkbox]", table);
    if (head) {
      head.checked = checked > 0 && checked === rowBoxes(table).length;
      head.indeterminate = checked > 0 && !head.checked;
    }
  }

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (!(target instanceof Element)) return;
    const close = target.closest("[data-close]");
    if (close) close.closest(".toast, dialog, [data-closable]")?.remove();
    const copy = target.closest("[data-copy]");
    if (copy) copyFrom(copy);
    if (!("commandForElement" in HTMLButtonElement.prototype)) runCommand(target.closest("[commandfor]"));
    if (target instanceof HTMLDialogElement && target.open && event.detail) target.close();
    all("details.menu[open]").forEach((menu) => { if (!menu.contains(target)) menu.open = false; });
    if (target.matches("tbody input[type=checkbox]:not(.switch)")) {
      const boxes = rowBoxes(target.closest("table"));
      if (event.shiftKey && lastBox && boxes.includes(lastBox)) {
        const [from, to] = [boxes.indexOf(lastBox), boxes.indexOf(target)].sort((a, b) => a - b);
        boxes.slice(from, to + 1).forEach((box) => { box.checked = target.checked; });
      }
      lastBox = target;
      countSelected(target.closest("table"));
    } else if (target.matches("thead input[type=checkbox]")) {
      rowBoxes(target.closest("table")).forEach((box) => { box.checked = target.checked; });
      countSelected(target.closest("table"));
    }
  });
  function runCommand(button) {
    const dialog = button && document.getElementById(button.getAttribute("commandfor"));
    if (!dialog) return;
    if (button.getAttribute("command") === "show-modal" && !dialog.open) dialog.showModal();
    if (button.getAttribute("command") === "close") dialog.close();
  }
  function copyFrom(button) {
    const source = find(button.dataset.copy);
    const text = "value" in source ? source.value : source.textContent;
    const word = find("[data-copy-word]", button) || button;
    navigator.clipboard.writeText(text).then(
      () => { word.textContent = "Copied"; announce("Copied"); setTimeout(() => { word.textContent = "Copy"; }, 2000); },
      () => { getSelection().selectAllChildren(source); announce("Selected. Copy it with your keyboard."); },
    );
  }

  // Shortcuts: none while typing, with a modifier, or when the person switched them off.
  let isGoing = false;
  function moveRow(step) {
    const rows = all("main tbody tr").filter((row) => row.offsetParent);
    const now = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.min(Math.max(now + step, 0), rows.length - 1)];
    (next?.querySelector("th[scope=row] a[href]") || next?.querySelector("a[href], button, input"))?.focus();
  }
  const selectRow = (shiftKey) => document.activeElement?.closest("tr")?.querySelector("input[type=checkbox]")
    ?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, shiftKey }));
  const actions = {
    "/": () => find("main input[type=search]")?.focus(),
    "?": () => find("#shortcuts")?.showModal(),
    "j": () => moveRow(1),
    "k": () => moveRow(-1),
    "x": () => selectRow(false),
    "X": () => selectRow(true),
    "e": () => (find(".explorer:has(tbody input:checked) [data-export-picked], .bulk.kept [data-export-picked]") || find("[data-export]"))?.click(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      const menus = all("details.menu[open]");
      menus.forEach((menu) => { menu.open = false; find("summary", menu).focus(); });
      const panel = find("[data-esc]");
      if (!menus.length && panel && !find("dialog[open]")) panel.click();
    }
    const typing = event.target.closest?.("input:not([type=checkbox]):not([type=radio]), select, textarea, [contenteditable], dialog");
    if (!("shortcuts" in document.body.dataset) || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const go = isGoing && find(`[data-go="${CSS.escape(event.key)}"]`);
    isGoing = event.key === "g";
    const act = go ? () => go.click() : actions[event.key];
    if (act) { event.preventDefault(); act(); }
  });

  // htmx: no polling in hidden tabs, a word about failures, focus after swaps, 401 handled by HX-Redirect.
  const polls = (element) => /\bevery\b/.test(element.getAttribute("hx-trigger") || "");
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && polls(event.detail.elt)) event.preventDefault();
  });
  document.addEventListener("htmx:responseError", (event) => {
    if (polls(event.detail.elt)) return;
    const id = event.detail.xhr.getResponseHeader("X-Request-Id");
    const known = { 403: "Your role does not allow this.", 404: "This is not there any more.", 429: "Too many requests. Wait a moment." };
    say((known[event.detail.xhr.status] || "AUM could not do this. Nothing on the page was changed.") + (id ? ` Reference ${id}.` : ""), true);
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (!polls(event.detail.elt)) say("AUM cannot be reached. Check the connection and try again.", true);
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    settle(event.detail.elt);
    all("table").forEach((table) => { if (find("tbody input:checked:not(.switch)", table)) countSelected(table); });
  });
  settle(document);
  // Tabs that do not fit scroll sideways: the one that is open is to be seen.
  all(".subnav [aria-current]").forEach((tab) => {
    const bar = tab.closest(".subnav");
    if (tab.offsetLeft + tab.offsetWidth > bar.offsetLeft + bar.clientWidth) {
      bar.scrollLeft = tab.offsetLeft - bar.offsetLeft - bar.clientWidth / 2;
    }
  });
})();
