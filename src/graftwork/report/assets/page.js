"use strict";
// A click on the head of a column sorts its table; a second one turns the order round. Cells without a number come last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, place) => {
    head.querySelector("button").addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => ({ row, key: row.cells[place].dataset.sort ?? "" }));
      const numbers = rows.every(({ key }) => key === "" || Number.isFinite(Number(key)));
      rows.sort((a, b) => {
        if ((a.key === "") !== (b.key === "")) return a.key === "" ? 1 : -1;
        const order = numbers ? Number(a.key) - Number(b.key) : a.key.localeCompare(b.key);
        return down ? -order : order;
      });
      body.append(...rows.map(({ row }) => row));
    });
  });
}
// On paper nothing can be opened: what is closed is opened before it is printed, and closed again.
const opened = [];
addEventListener("beforeprint", () => {
  for (const closed of document.querySelectorAll("details:not([open])")) opened.push(closed);
  opened.forEach((one) => (one.open = true));
});
addEventListener("afterprint", () => opened.splice(0).forEach((one) => (one.open = false)));
