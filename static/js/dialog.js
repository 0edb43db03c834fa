// data-dialog-open="id" opens a native <dialog>, data-dialog-close closes the one around it, a click beside it too.
(() => {
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-dialog-open]");
    if (opener) document.getElementById(opener.dataset.dialogOpen)?.showModal();
    if (event.target.closest("[data-dialog-close]")) event.target.closest("dialog")?.close();
    if (event.target.matches("dialog[open]")) event.target.close();
  });
  const reopen = (root) => root.querySelectorAll("dialog[data-dialog-reopen]:not([open])").forEach((box) => box.showModal());
  document.addEventListener("DOMContentLoaded", () => reopen(document));
  document.addEventListener("htmx:load", (event) => reopen(event.target));
})();
