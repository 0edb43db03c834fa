// <time datetime data-local="time|date|moment|ago"> is shown in the reader's zone; [data-zone] names that zone.
// The zone is left in a cookie, so that the server cuts days where the reader does from the second page on.
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
  const place = zone.split("/").pop().replaceAll("_", " ");
  const shapes = {
    time: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    date: { day: "numeric", month: "short", year: "numeric" },
    moment: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
  };
  const full = new Intl.DateTimeFormat("en-GB", { dateStyle: "long", timeStyle: "long", timeZone: zone });
  const units = [["day", 86400], ["h", 3600], ["min", 60]];

  const ago = (moment) => {
    const seconds = Math.max(0, Math.round((Date.now() - moment) / 1000));
    for (const [unit, size] of units) {
      if (seconds < size) continue;
      const count = Math.floor(seconds / size);
      return `${count} ${unit}${unit === "day" && count > 1 ? "s" : ""} ago`;
    }
    return `${seconds} s ago`;
  };
  const show = (element) => {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) return;
    const kind = element.dataset.local;
    element.title = full.format(moment);
    element.textContent = kind === "ago"
      ? ago(moment)
      : new Intl.DateTimeFormat("en-GB", { ...(shapes[kind] || shapes.moment), timeZone: zone }).format(moment);
  };
  const all = (root) => {
    root.querySelectorAll("time[data-local]").forEach(show);
    root.querySelectorAll("[data-zone]").forEach((element) => { element.textContent = place; element.title = zone; });
  };

  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `tz=${zone}; path=/; max-age=31536000; samesite=lax${secure}`;
  document.addEventListener("DOMContentLoaded", () => all(document));
  document.addEventListener("htmx:load", (event) => all(event.target));
  setInterval(() => document.querySelectorAll('time[data-local="ago"]').forEach(show), 1000);
})();
