// data-confirm-name="My key": the form's submit button works only once that name was typed. The server checks again.
(() => {
  const check = (field) => {
    const button = field.form && field.form.querySelector("[data-confirm-submit]");
    if (button) button.disabled = field.value.trim() !== field.dataset.confirmName.trim();
  };
  const all = (root) => root.querySelectorAll("[data-confirm-name]").forEach(check);

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-confirm-name]")) check(event.target);
  });
  document.addEventListener("DOMContentLoaded", () => all(document));
  document.addEventListener("htmx:load", (event) => all(event.target));
})();
