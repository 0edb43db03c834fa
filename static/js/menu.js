// The menu of small screens, and <details class="menu">: one open at a time, Escape and a click elsewhere close it.
(() => {
  const close = (except) => document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (menu !== except) menu.open = false;
  });

  document.addEventListener("click", (event) => {
    close(event.target.closest("details.menu"));
    const button = event.target.closest("[data-menu-button]");
    if (!button) return;
    const panel = document.getElementById(button.getAttribute("aria-controls"));
    const open = panel.classList.toggle("is-open");
    button.setAttribute("aria-expanded", String(open));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const menu = document.querySelector("details.menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
})();
