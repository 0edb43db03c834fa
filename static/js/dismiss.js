// data-dismiss closes the message around it.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-dismiss]");
  if (button) button.closest("[data-dismissible]")?.remove();
});
