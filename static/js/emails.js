/* The template form: buttons put a placeholder where the cursor is. Without script, the list beside them is copied from. */
"use strict";
(() => {
  const fields = [...document.querySelectorAll("[data-insertable]")];
  let last = fields[fields.length - 1];
  fields.forEach((field) => field.addEventListener("focus", () => { last = field; }));
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-insert]");
    if (!button || !last) return;
    last.focus();
    last.setRangeText(button.dataset.insert, last.selectionStart, last.selectionEnd, "end");
    last.dispatchEvent(new Event("input", { bubbles: true }));
  });
})();
