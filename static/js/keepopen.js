// A part of a page that is fetched again keeps what the reader had opened: every <details id> inside it.
(() => {
  let open = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    open = [...event.detail.target.querySelectorAll("details[open][id]")].map((element) => element.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    open.forEach((id) => { const element = document.getElementById(id); if (element) element.open = true; });
    open = [];
  });
})();
