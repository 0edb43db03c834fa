// A fragment that could not be fetched says so, once, and goes away when the next one arrives.
(() => {
  const region = () => document.querySelector("[data-toasts]");
  const show = (text) => {
    const box = region();
    if (!box) return;
    const message = document.createElement("div");
    message.className = "message message-error";
    message.dataset.dismissible = "";
    const words = document.createElement("p");
    words.textContent = text;
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.dismiss = "";
    button.setAttribute("aria-label", "Dismiss");
    button.textContent = "×";
    message.append(words, button);
    box.replaceChildren(message);
  };

  document.addEventListener("htmx:sendError", () => show("No connection. What you see may be old; we try again."));
  document.addEventListener("htmx:responseError", (event) => {
    const status = event.detail.xhr.status;
    if (status === 429) show("Too many requests for the moment. Wait a little and try again.");
    else if (status === 401 || status === 403) show("You are no longer allowed to see this. Reload the page.");
    else show("That did not work. Try again; if it stays, tell support the time.");
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) region()?.replaceChildren();
  });
})();
