// data-copy="id of an element" copies its text; the button and a live region both say "Copied".
(() => {
  const write = async (text) => {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea"); // plain http: the older way still works
    field.value = text;
    field.className = "spoken";
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    if (!done) throw new Error("copy refused");
  };
  const say = (text) => {
    const region = document.querySelector("[data-spoken]");
    if (region) region.textContent = text;
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    if (!source) return;
    const before = button.dataset.label || button.textContent;
    button.dataset.label = before;
    try {
      await write(source.textContent.trim());
      button.textContent = "Copied";
      button.classList.add("is-copied");
      say("Copied");
    } catch {
      button.textContent = "Select and copy";
      say("Copying was refused. Select the text and copy it.");
    }
    setTimeout(() => { button.textContent = before; button.classList.remove("is-copied"); say(""); }, 2000);
  });
})();
