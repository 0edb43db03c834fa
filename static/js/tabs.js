// [data-tabs] holds panels, each with its heading: with scripts they become tabs, and the choice is kept for next time.
(() => {
  const remember = (group, name) => { try { localStorage.setItem(`tab:${group}`, name); } catch { /* not kept */ } };
  const recall = (group) => { try { return localStorage.getItem(`tab:${group}`); } catch { return null; } };

  const choose = (box, tab, focus) => {
    box.querySelectorAll('[role="tab"]').forEach((other) => {
      const chosen = other === tab;
      other.setAttribute("aria-selected", String(chosen));
      other.tabIndex = chosen ? 0 : -1;
      document.getElementById(other.getAttribute("aria-controls")).hidden = !chosen;
    });
    if (focus) tab.focus();
  };
  const build = (box) => {
    const tabs = [...box.querySelectorAll('[role="tab"]')];
    if (!tabs.length) return;
    const kept = recall(box.dataset.tabs);
    choose(box, tabs.find((tab) => tab.dataset.tab === kept) || tabs[0], false);
  };
  const all = (root) => root.querySelectorAll("[data-tabs]").forEach(build);

  document.addEventListener("click", (event) => {
    const tab = event.target.closest('[data-tabs] [role="tab"]');
    if (!tab) return;
    const box = tab.closest("[data-tabs]");
    choose(box, tab, false);
    remember(box.dataset.tabs, tab.dataset.tab);
  });
  document.addEventListener("keydown", (event) => {
    const tab = event.target.closest?.('[data-tabs] [role="tab"]');
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!tab || !step) return;
    const box = tab.closest("[data-tabs]");
    const tabs = [...box.querySelectorAll('[role="tab"]')];
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    choose(box, next, true);
    remember(box.dataset.tabs, next.dataset.tab);
    event.preventDefault();
  });
  document.addEventListener("DOMContentLoaded", () => all(document));
  document.addEventListener("htmx:load", (event) => all(event.target));
})();
