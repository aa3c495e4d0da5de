"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);

  // Light or dark: the system's choice, until the button is used.
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  $("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; });

  // Tooltips: the <title> of a mark, at once.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  for (const title of document.querySelectorAll("svg title")) {
    const mark = title.parentElement;
    mark.dataset.tip = title.textContent;
    mark.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const show = (event) => {
    const mark = event.target.closest ? event.target.closest("[data-tip]") : null;
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const width = document.documentElement.clientWidth;
    const left = Math.min(event.clientX + 14, width - tip.offsetWidth - 8);
    const above = event.clientY + 18 + tip.offsetHeight > innerHeight;
    tip.style.left = Math.max(8, left) + "px";
    tip.style.top = (above ? event.clientY - tip.offsetHeight - 12 : event.clientY + 18) + "px";
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Tables sort by the column whose heading is pressed; once more turns the order round.
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => heading.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") !== "descending";
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        return cell.dataset.order === undefined ? cell.textContent.trim() : Number(cell.dataset.order);
      };
      const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a), key(b)) * (down ? -1 : 1));
      table.tBodies[0].append(...rows);
    }));
  }

  // The list of programs shows what has all words of the query.
  const query = $("query");
  if (query) {
    const tasks = [...document.querySelectorAll("#tasks > .task")].map((element) => {
      const words = new Set(element.dataset.words.split(" "));
      return { element, words, text: (element.dataset.words + " " + element.querySelector(".prompt").textContent).toLowerCase() };
    });
    const matches = (task, term) => task.words.has(term) || (!/^(before|after|split|id):/.test(term) && task.text.includes(term.toLowerCase()));
    const filter = () => {
      const terms = query.value.split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const task of tasks) {
        const fits = terms.every((term) => (term[0] === "-" ? !matches(task, term.slice(1)) : matches(task, term)));
        task.element.hidden = !fits;
        shown += fits ? 1 : 0;
      }
      $("count").textContent = shown + " of " + tasks.length + " programs";
      return shown;
    };
    query.addEventListener("input", filter);
    document.addEventListener("click", (event) => {
      const link = event.target.closest("[data-query]");
      if (!link) return;
      query.value = link.dataset.query;
      const only = filter() === 1;
      if (only) tasks.find((task) => !task.element.hidden).element.open = true;
    });
    filter();
  }

  addEventListener("beforeprint", () => { for (const life of document.querySelectorAll("details.life")) life.open = true; });
})();
