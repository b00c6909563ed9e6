"use strict";
// Shows the rows of the catalogue that hold every word of the search; the address keeps it, so that it can be sent on.
(() => {
  const form = document.querySelector(".catalogue-search");
  const words = document.getElementById("catalogue-words");
  const status = document.getElementById("catalogue-status");
  const told = form.querySelector("output");
  const rows = [...document.querySelectorAll("#catalogue-table tbody tr")].map((row) => ({
    row,
    text: row.textContent.toLowerCase(),
    status: row.cells[3].textContent.trim(),
  }));

  function filter() {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text, status: state } of rows) {
      row.hidden = !(wanted.every((word) => text.includes(word)) && (!status.value || state === status.value));
      if (!row.hidden) shown += 1;
    }
    told.textContent = shown === 0 ? "No paper fits. Fewer words find more." : `${shown} of ${rows.length} papers`;
    const query = new URLSearchParams();
    if (words.value) query.set("q", words.value);
    if (status.value) query.set("status", status.value);
    history.replaceState(null, "", query.size ? `#${query}` : location.pathname);
  }

  const given = new URLSearchParams(location.hash.slice(1));
  words.value = given.get("q") || "";
  status.value = given.get("status") || "";
  form.hidden = false;
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  words.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    words.value = "";
    filter();
  });
  filter();
})();
